"""What of a request reaches a worker: our own headers and the fields we know, on one of a few routes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import make_tiny
from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.engine.worker import Worker
from filbert.models import store
from filbert.server.app import make_app
from filbert.server.offered import Offered
from filbert.server.serve_options import ServeOptions
from running_server import WAIT_S

ROUTES = {
    "/v1/chat/completions",
    "/v1/chat/completions/input_tokens",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
}
FIELDS = {
    *("add_special", "cache_prompt", "content", "documents", "grammar", "input", "max_tokens", "messages"),
    *("parallel_tool_calls", "prompt", "query", "return_progress", "seed", "stream", "stream_options", "temperature"),
    *("tool_choice", "tools"),
}  # of these requests
HEADERS = {"host", "content-length", "connection", "accept-encoding", "content-type", "authorization"}


@dataclass
class Heard:
    route: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes


@dataclass
class Between:
    """Stands between the gateway and its workers: keeps what passes, and hands it on."""

    folder: Path
    heard: list[Heard] = field(default_factory=list)
    listeners: list[socket.socket] = field(default_factory=list)

    def before(self, address: str) -> str:
        """The address to ask instead of a worker's."""
        path = self.folder / f"{len(self.listeners)}.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.listeners.append(listener)
        threading.Thread(target=self._listen, args=(listener, address.removeprefix("unix://")), daemon=True).start()
        return f"unix://{path}"

    def _listen(self, listener: socket.socket, worker: str) -> None:
        with suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._pass_on, args=(listener.accept()[0], worker), daemon=True).start()

    def _pass_on(self, asked: socket.socket, worker: str) -> None:
        with asked, socket.socket(socket.AF_UNIX) as onward, suppress(OSError):
            onward.connect(worker)
            with asked.makefile("rb") as reader:
                head = b"".join(iter(reader.readline, b"\r\n"))
                route, *lines = head.decode().splitlines()
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = reader.read(int(headers["content-length"]))
            self.heard.append(Heard(route.split()[1], headers, json.loads(body), head + body))
            onward.sendall(head + b"\r\n" + body)
            while piece := onward.recv(1 << 16):
                asked.sendall(piece)

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


@pytest.fixture
def between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    made = Between(tmp_path)
    address = Worker._address
    monkeypatch.setattr(Worker, "_address", lambda worker: made.before(address(worker)))
    yield made
    made.close()


ODD = "odd-of-the-client"
NUMBER = 987654321
STRANGE: dict[str, Any] = {
    **dict.fromkeys(("id_slot", "n_predict", "n_keep", "n_discard", "n_probs", "t_max_predict_ms", "slot_id"), NUMBER),
    **dict.fromkeys(
        ("path", "filename", "grammar_file", "model_path", "mmproj", "slot_save_path", "chat_template"), ODD
    ),
    **dict.fromkeys(("prompt_cache", "input_prefix", "chat_format", "reasoning_format", "webhook", "url", "user"), ODD),
    "lora_adapters": [{"id": NUMBER, "scale": NUMBER, "path": ODD}],
    "samplers": [ODD],
    "preserved_tokens": [ODD],
    "grammar_triggers": [{"type": 1, "value": ODD}],
    "response_fields": [ODD],
    "metadata": {"user_id": ODD},
    "extra_body": {"id_slot": NUMBER, "deeper": [{"file": ODD}]},
}
CLIENTS = {
    "authorization": f"Bearer {ODD}",
    "x-api-key": ODD,
    "cookie": f"session={ODD}",
    "x-forwarded-for": "203.0.113.77",
    "forwarded": "for=203.0.113.77",
    "x-anything": ODD,
    "user-agent": ODD,
    "referer": f"http://127.0.0.1/{ODD}",
    "x-request-id": ODD,
    "traceparent": ODD,
}
TURN = {"role": "user", "content": [{"type": "text", "text": "Hi", **STRANGE}], "name": "", **STRANGE}
PLAIN_TURN = {"role": "user", "content": "Hi", **STRANGE}
FUNCTION = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}, **STRANGE}
TOOLS = [{"type": "function", "function": FUNCTION, **STRANGE}]
MESSAGES = {"messages": [TURN], "max_tokens": 4, "temperature": 0.25}
LONG = "Hi " * 400  # and its answer may be so long that tokens are counted
SHORT = {"grammar": 'root ::= "x"'}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {**MESSAGES, "seed": 1, "cache_prompt": True, "stream_options": STRANGE}),
    ("/v1/chat/completions", {**MESSAGES, "stream": True, "tools": TOOLS, "chat_template_kwargs": STRANGE}),
    (
        "/v1/chat/completions",
        {"messages": [{**PLAIN_TURN, "content": LONG}], **SHORT, "response_format": {"type": "text", **STRANGE}},
    ),
    ("/v1/completions", {"prompt": "Hi", "max_tokens": 4, "temperature": 0.25}),
    ("/v1/completions", {"prompt": LONG, **SHORT}),
    ("/v1/responses", {"input": [PLAIN_TURN], "max_output_tokens": 16, "temperature": 0.25, "reasoning": STRANGE}),
    ("/v1/messages", {**MESSAGES, "tools": [{"name": "f", "input_schema": {"type": "object"}, **STRANGE}]}),
    ("/v1/messages/count_tokens", {"messages": [TURN]}),
    ("/api/chat", {"messages": [PLAIN_TURN], "options": {"temperature": 0.25, "num_predict": 4, **STRANGE}}),
    ("/api/generate", {"prompt": "Hi", "options": {"temperature": 0.25, "num_predict": 4, **STRANGE}}),
    ("/v1/embeddings", {"input": "Hi"}),
    ("/api/embed", {"input": "Hi", "options": STRANGE}),
    ("/v1/rerank", {"model": "ranks", "query": "Hi", "documents": [{"text": "Hi", **STRANGE}]}),
]


def test_of_a_request_only_known_fields_and_headers_of_our_own_reach_a_worker(tmp_path: Path, between: Between) -> None:
    template = "{{ tools }}{% for message in messages %}{{ message.content }}{% endfor %}"
    files = [make_tiny.dense(tmp_path / "tiny.gguf", template=template), make_tiny.reranker(tmp_path / "ranks.gguf")]

    async def act() -> None:
        offered = Offered(Pool(LoadOptions(context=2048, parallel=2), 300))
        for file in files:
            await asyncio.to_thread(offered.add, store.resolve(str(file)))
        between.heard.clear()  # its own, to warm up
        transport = httpx.ASGITransport(make_app(offered, ServeOptions()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=WAIT_S) as client:
            for route, fields in REQUESTS:
                body = {"model": "tiny", **STRANGE, **fields}
                answer = await client.post(route, params=STRANGE["metadata"], json=body, headers=CLIENTS)
                assert answer.status_code == 200, (route, answer.text)
        await asyncio.to_thread(offered.close)

    asyncio.run(act())
    assert {each.route for each in between.heard} == ROUTES
    for each in between.heard:
        assert each.headers.keys() <= HEADERS
        assert not [strange for strange in (ODD, str(NUMBER), "203.0.113.77") if strange.encode() in each.raw]
    assert {name for each in between.heard for name in each.body} == FIELDS
