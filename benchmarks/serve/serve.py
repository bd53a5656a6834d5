"""What the server costs, and what many clients get: one command, tables with the ratios of one run.

    python benchmarks/serve/serve.py [--peer PYTHON] [--rounds 5] [relay first many turns connections]

PYTHON is an interpreter that has `llama-cpp-python[server]` 0.3.36, compiled for this machine: `make benchmark-serve`
makes one in `.peer`. Without it the peer's rows are left out, and said. Ways are asked in turn, round by round, and
compared by the median; prompts are fresh. Close other programs first: the load at the start is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import httpx
import psutil
from neighbours import MODEL, serving

import filbert
from clients import Heard, ask, many, question, streamed_per_second, tokens_per_second
from filbert.core import machine
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.model import STREAMED
from filbert.engine.sampling import Sampling
from filbert.models import store
from filbert.report.table import table

TOKENS = 96
STREAMS = 16
CLIENTS = 16
NO_END = {"0": -100, "2": -100}  # the starter's ends: every answer has as many tokens
FIRSTS = 20  # short questions a round
CHAT_TOKENS = 1500
IDLE = 200


@contextmanager
def peer_serving(python: str) -> Iterator[str]:
    """llama-cpp-python's server at its defaults, but for the context, which would hold no chat of 16 clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = store.resolve(MODEL).path
    command = [python, "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", "4096", "--port", str(port)]
    command += [
        "--n_threads",
        str(machine.cores()),
        "--n_threads_batch",
        str(machine.cores()),
        "--interrupt_requests",
        "false",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{address}/v1/models")
                break
            except httpx.TransportError:
                if process.poll() is not None:
                    sys.exit(f"{python} -m llama_cpp.server ended with status {process.returncode}.")
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def chat(messages: list[dict[str, str]], tokens: int = TOKENS) -> dict[str, Any]:
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "temperature": 0.8, "logit_bias": NO_END}


class Bare:
    """The worker of a server that runs, without the server: its socket is leased."""

    def __init__(self, model: filbert.Model) -> None:
        self._model = model
        worker = model.children.socket("text")
        self.address, self.headers = worker.address, {"Authorization": worker.headers["Authorization"]}

    def body(self, messages: list[dict[str, str]], tokens: int = TOKENS) -> dict[str, Any]:
        """What the gateway would send."""
        sampling = configured(Sampling, {"max_tokens": tokens, "temperature": 0.8})
        prepared = self._model.prepare_chat([Message(**each) for each in messages], sampling)
        return {**prepared.body, **STREAMED, "logit_bias": NO_END}


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def print_against(title: str, seen: dict[str, list[float]], base: str, unit: str, digits: int = 1) -> None:
    middle = {name: statistics.median(values) for name, values in seen.items()}
    rows = [
        (
            name,
            *(f"{value:.{digits}f}" for value in (middle[name], min(values), max(values))),
            f"{middle[name] / middle[base]:.3f}",
        )
        for name, values in seen.items()
    ]
    print(f"\n{title}\n" + table(("", unit, "least", "most", f"÷ {base}"), rows), flush=True)


async def relay(options: argparse.Namespace) -> None:
    """The same worker, asked through the gateway and at its own socket, in turn."""
    with serving("--parallel", str(STREAMS), "--context", "8192") as (address, gateway), filbert.load(MODEL) as model:
        bare = Bare(model)
        for streams in (1, STREAMS):
            seen: dict[str, list[float]] = {"bare worker": [], "filbert serve": []}
            cpu_ms: list[float] = []
            for number in range(options.rounds + 1):
                questions = [question() for _ in range(streams)]
                direct = await many(bare.address, [bare.body(asked) for asked in questions], bare.headers)
                before = cpu_s(gateway)
                through = await many(address, [chat(question()) for _ in range(streams)])
                if number:  # the first round warms up
                    cpu_ms.append((cpu_s(gateway) - before) * 1e3 / sum(each.tokens for each in through))
                    seen["bare worker"].append(streamed_per_second(direct))
                    seen["filbert serve"].append(streamed_per_second(through))
            title = f"Streams together: {streams} (targets: 1 stream 0.96, {STREAMS} streams 0.98)"
            print_against(title, seen, "bare worker", "tokens/s")
            print(f"CPU of the gateway: {statistics.median(cpu_ms):.3f} ms a token (target 0.2)", flush=True)


async def first(options: argparse.Namespace) -> None:
    """Time to the first token of a short chat, in turn."""
    with serving() as (address, _), filbert.load(MODEL) as model:
        bare = Bare(model)
        seen: dict[str, list[float]] = {"bare worker": [], "filbert serve": []}
        for _ in range(FIRSTS * options.rounds):
            heard = await ask(bare.address, bare.body(question(4), 2), bare.headers)
            seen["bare worker"].append(heard.first_s * 1e3)
            seen["filbert serve"].append((await ask(address, chat(question(4), 2))).first_s * 1e3)
    print_against("Time to the first token, one client", seen, "bare worker", "ms", 2)
    more = statistics.median(seen["filbert serve"]) - statistics.median(seen["bare worker"])
    print(f"The gateway adds {more:.2f} ms (target 1)", flush=True)


async def clients(options: argparse.Namespace) -> None:
    """16 clients at shipped settings against one, and against the peer's server."""
    seen: dict[str, list[float]] = {"one client": [], f"{CLIENTS} clients": []}
    peers: dict[str, list[float]] = {"llama_cpp.server, one client": [], f"llama_cpp.server, {CLIENTS} clients": []}
    for _ in range(max(2, options.rounds // 2)):  # in turn: two servers at once would share the machine
        with serving() as (address, _):
            await together(address, seen)
        if options.peer:
            with peer_serving(options.peer) as address:
                await together(address, peers)
    ours = statistics.median(seen[f"{CLIENTS} clients"])
    print_against(
        "Clients at once (target 1.8, goal 2.2)",
        {**seen, **{k: v for k, v in peers.items() if v}},
        "one client",
        "tokens/s",
    )
    if options.peer:
        theirs = statistics.median(peers[f"llama_cpp.server, {CLIENTS} clients"])
        print(f"Ours ÷ llama_cpp.server, {CLIENTS} clients: {ours / theirs:.2f} (target 2)", flush=True)


async def together(address: str, seen: dict[str, list[float]]) -> None:
    one, all_of_them = seen.values()
    await ask(address, chat(question(), 8))
    alone: list[Heard] = [await ask(address, chat(question())) for _ in range(4)]
    one.append(tokens_per_second(alone))
    all_of_them.append(tokens_per_second(await many(address, [chat(question()) for _ in range(CLIENTS)])))


async def turns(options: argparse.Namespace) -> None:
    """The second turn of a long chat finds its prompt remembered; of four chats in turn as well."""
    with serving() as (address, _), filbert.load(MODEL) as model:
        for chats in (1, 4):
            seen: dict[str, list[float]] = {"first turn": [], "second turn": []}
            for _ in range(options.rounds if chats == 1 else max(1, options.rounds // 2)):
                talks = [
                    [{"role": "user", "content": f"{numbers(model)}\n\nWhat are these numbers?"}] for _ in range(chats)
                ]
                for talk in talks:
                    heard = await ask(address, chat(talk, 16))
                    seen["first turn"].append(heard.first_s * 1e3)
                    talk += [{"role": "assistant", "content": heard.text}]
                    talk += [{"role": "user", "content": "And which of them comes most often?"}]
                for talk in talks:
                    seen["second turn"].append((await ask(address, chat(talk, 16))).first_s * 1e3)
            title = f"Time to the first token, chats of {CHAT_TOKENS} tokens, {chats} in turn (target 0.06)"
            print_against(title, seen, "first turn", "ms")


def numbers(model: filbert.Model) -> str:
    text = ""
    while len(model.tokenize(text)) < CHAT_TOKENS:
        text += " ".join(str(random.randrange(1000)) for _ in range(100)) + "\n"
    return text


async def connections(options: argparse.Namespace) -> None:
    """Memory of the gateway before and after idle connections, each of which asked once."""
    with serving() as (address, gateway):
        await ask(address, chat(question(), 8))
        httpx.get(f"{address}/health")
        before = gateway.memory_info().rss
        idle = [httpx.Client() for _ in range(IDLE)]
        for client in idle:
            client.get(f"{address}/health").raise_for_status()
        grown = gateway.memory_info().rss - before
        for client in idle:
            client.close()
    print(f"\n{IDLE} idle connections: {grown / 1e6:.1f} MB more, {before / 1e6:.0f} before (target 50)", flush=True)


SECTIONS = {"relay": relay, "first": first, "many": clients, "turns": turns, "connections": connections}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--peer", default=os.environ.get("FILBERT_PEER_PYTHON", ""), help="a Python with the peer")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 12), metavar="1–11", help="of each way")
    options = parser.parse_args()
    stored = store.resolve_or_pull(MODEL)
    print(f"{machine.processor()}, {machine.cores()} cores; {machine.busy_cores(1.0):.1f} cores busy before the start")
    print(f"filbert {version('filbert')}, xllamacpp {version('xllamacpp')}, {machine.cores()} threads")
    print(f"{MODEL}, sha256 {stored.sha256[:12]}; again: python {' '.join(sys.argv)}", flush=True)
    if not options.peer:
        print("No --peer: the rows of llama_cpp.server are left out.")
    for name in options.sections:
        asyncio.run(SECTIONS[name](options))


if __name__ == "__main__":
    main()
