"""A server of another kind, that answers as it is told to and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Asked:
    """A request. headers: by names in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class OtherServer:
    """models: what its list says; answer: writes what comes to a POST; left: an answer is over."""

    port: int
    answer: Answer
    models: Any
    asked: list[Asked] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def posts(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "POST"]


@contextmanager
def other_server(answer: Answer, *models: str, port: int = 0, certificate: Path | None = None) -> Iterator[OtherServer]:
    """certificate: with its key, for one that speaks HTTPS as localhost."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._heard({})
            document(self, told.models)

        def do_POST(self) -> None:
            self._heard(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            with suppress(BrokenPipeError, ConnectionResetError):
                told.answer(self)
            told.left.set()

        def _heard(self, body: dict[str, Any]) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.heard = Asked(self.command, self.path, headers, body)
            told.asked.append(self.heard)

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        page = {"object": "list", "data": [{"id": each, "object": "model", "owned_by": "vllm"} for each in models]}
        told = OtherServer(server.server_port, answer, page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield told
        finally:
            server.shutdown()


def document(to: BaseHTTPRequestHandler, content: Any, status: int = 200, **headers: str) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    to.send_response(status)
    for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
        to.send_header(name.replace("_", "-"), value)
    to.end_headers()
    to.wfile.write(body)


def begin(to: BaseHTTPRequestHandler) -> None:
    """The head of a stream, which ends with its connection."""
    to.send_response(200)
    to.send_header("content-type", "text/event-stream")
    to.send_header("connection", "close")
    to.end_headers()


def event(to: BaseHTTPRequestHandler, content: Any) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    to.wfile.write(b"data: " + body + b"\n\n")


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    """As vLLM writes a piece of an answer."""
    choice = {"index": 0, "delta": said, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    return {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


COUNTED = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 3}}


def says_hi(to: BaseHTTPRequestHandler) -> None:
    """As vLLM does."""
    begin(to)
    event(to, delta(role="assistant", content=""))
    event(to, delta(content="Hel"))
    event(to, delta(content="lo"))
    event(to, delta("stop", content=""))
    event(to, delta() | {"choices": [], "usage": COUNTED})
    event(to, b"[DONE]")


def asks_for_a_tool(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}
    event(to, delta(role="assistant", content=None, tool_calls=[call]))
    for piece in ('{"a": 1, ', '"b": 2}'):
        event(to, delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]))
    event(to, delta("stop"))  # as OpenAI says of a call that had to be
    event(to, b"[DONE]")
