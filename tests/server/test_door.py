"""Who is let in, and how much they may bring."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest
from running_server import STARTER, RunningServer

from filbert.server.door import MAX_BODY_BYTES


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4891",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "127.0.0.1:x",
        "169.254.169.254",
    ],
)
def test_a_page_that_rebinds_its_name_is_refused(server: RunningServer, host: str) -> None:
    """Ollama CVE-2024-28224."""
    for path in ("/health", "/v1/models", "/openapi.json"):
        answer = server.http.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]:4891"])
def test_names_of_this_machine_are_let_in(server: RunningServer, host: str) -> None:
    assert server.http.get("/health", headers={"Host": host}).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_page_of_another_site_can_neither_ask_nor_ask_whether_it_may(
    server: RunningServer, headers: dict[str, str]
) -> None:
    post = server.http.post("/v1/completions", headers=headers, json={"model": STARTER, "prompt": "x", "max_tokens": 1})
    preflight = server.http.options("/v1/completions", headers={**headers, "Access-Control-Request-Method": "POST"})
    assert post.status_code == 403
    assert "local program" in post.json()["error"]["message"]
    assert preflight.status_code in (403, 405)
    assert not any(name.startswith("access-control") for name in (*post.headers, *preflight.headers))


def test_it_listens_on_loopback_only_and_its_workers_on_no_address(server: RunningServer) -> None:
    def listening(process: psutil.Process) -> list[str]:
        return [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]

    server.post(max_tokens=1)
    assert listening(psutil.Process(server.process.pid)) == ["127.0.0.1"]
    assert server.workers() and all(listening(worker) == [] for worker in server.workers())


def test_a_body_of_50_mb_is_refused_before_it_is_read(server: RunningServer) -> None:
    before = psutil.Process(server.process.pid).memory_info().rss
    for content in (b"x" * 50_000_000, json.dumps({"model": STARTER, "prompt": "x" * 50_000_000}).encode()):
        answer = server.http.post("/v1/completions", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert psutil.Process(server.process.pid).memory_info().rss < before + 2 * MAX_BODY_BYTES


def test_a_body_without_an_end_is_refused_when_it_is_too_much(server: RunningServer) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 1_000_000

    with suppress(httpx.WriteError):  # the server may hang up while this client still talks
        assert server.http.post("/v1/completions", content=endless()).status_code == 413
    assert server.http.get("/health").status_code == 200


BAD_BODIES = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"messages":' * 5000 + b"1" + b"}" * 5000,
    "NaN": b'{"model": "smollm2:135m", "prompt": "x", "temperature": NaN}',
    "Infinity": b'{"model": "smollm2:135m", "prompt": "x", "temperature": Infinity}',
    "beyond floats": b'{"model": "smollm2:135m", "prompt": "x", "temperature": 1e999}',
    "cut": b'{"model": "smollm2:135m", "pro',
    "no UTF-8": b'{"model": "smollm2:135m", "prompt": "\xff\xfe"}',
    "half a character": b'{"model": "smollm2:135m", "prompt": "\\ud83d"}',
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "a form": b"model=smollm2&prompt=x",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize("route", ["chat/completions", "completions", "embeddings"])
def test_a_body_that_is_no_request_is_a_400(server: RunningServer, route: str, body: bytes) -> None:
    answer = server.http.post(f"/v1/{route}", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/slots", 404),
        ("POST", "/props", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", f"/v1/models/{STARTER}", 405),
    ],
)
def test_there_are_no_routes_but_ours(server: RunningServer, method: str, path: str, status: int) -> None:
    """The engine's own server has many more: what it can be told stays behind the gateway."""
    answer = server.http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


def test_bytes_that_are_no_http_end_their_connection_and_nothing_else(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"\x00\xff garbage\r\n\r\n")
        assert raw.recv(100).startswith((b"HTTP/1.1 400", b""))
    assert server.http.get("/health").status_code == 200
