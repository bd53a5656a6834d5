"""How long the slot of a client that goes away stays taken, on each route: while it is answered (target 0.3 s), and
while its prompt of 3,600 tokens is read (target 2 s).

    python benchmarks/serve/leaving.py [--rounds 2] [--batch 512]

From the moment that the connection is closed until the engine itself says that it works at nothing. It is asked between
two tokens, or two pieces of a prompt. Clients leave at a random moment. Close other programs first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
from neighbours import CONTEXT, FOR_EVER, MODEL, long_prompt, serving

import filbert
from filbert.report.table import table

ANSWER = 4000  # tokens, which nobody waits for
AMID_S = (0.5, 2.0)  # into an answer or a prompt: a client leaves then
ROUTES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda text: {"messages": said(text), "max_tokens": ANSWER, "grammar": FOR_EVER},
    "/v1/completions": lambda text: {"prompt": text, "max_tokens": ANSWER, "grammar": FOR_EVER},
    "/v1/responses": lambda text: {"input": text, "max_output_tokens": ANSWER, "grammar": FOR_EVER},
    "/v1/messages": lambda text: {"messages": said(text), "max_tokens": ANSWER, "grammar": FOR_EVER},
    "/api/generate": lambda text: {"prompt": text, "options": {"num_predict": ANSWER, "grammar": FOR_EVER}},
    "/api/chat": lambda text: {"messages": said(text), "options": {"num_predict": ANSWER, "grammar": FOR_EVER}},
}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class Engine:
    """The worker of a server, asked past the server."""

    def __init__(self, model: filbert.Model) -> None:
        worker = model.children.socket("text")
        by_socket = httpx.HTTPTransport(uds=worker.address.removeprefix("unix://"))
        self._http = httpx.Client(transport=by_socket, base_url="http://worker", headers=worker.headers, timeout=60)

    def works(self) -> bool:
        return any(slot["is_processing"] for slot in self._http.get("/slots").json())

    def wait_until(self, works: bool) -> None:
        while self.works() != works:
            time.sleep(0.002)


def slot_held_s(engine: Engine, address: str, route: str, body: dict[str, Any]) -> float:
    """Ask, leave somewhere in the middle, and wait for the slot."""
    content = json.dumps({"model": MODEL, **body}).encode()
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as connection:
        connection.sendall(head.encode() + content)
        engine.wait_until(works=True)
        time.sleep(random.uniform(*AMID_S))
        assert engine.works(), f"{route} was through before its client left"
    left = time.perf_counter()
    engine.wait_until(works=False)
    return time.perf_counter() - left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", help="left out: as shipped")
    chosen = parser.parse_args()
    print("Load at the start:", *(f"{load:.2f}" for load in os.getloadavg()))
    rows = []
    flags = ("--batch", chosen.batch) if chosen.batch else ()
    with serving(*CONTEXT, *flags) as (address, _), filbert.load(MODEL) as model:
        engine = Engine(model)
        for route, body in ROUTES.items():
            for stream in (True, False):
                answered, read = (
                    [
                        slot_held_s(engine, address, route, {**body(text()), "stream": stream})
                        for _ in range(chosen.rounds)
                    ]
                    for text in (lambda: "Hi.", long_prompt)
                )
                rows.append((route, "streamed" if stream else "whole", f"{max(answered):.2f}", f"{max(read):.2f}"))
    print(f"Seconds until the slot is free, the worst of {chosen.rounds}")
    print(table(("route", "asked for", "answered (0.3)", "prompt read (2)"), rows))


if __name__ == "__main__":
    main()
