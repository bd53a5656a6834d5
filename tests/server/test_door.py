"""Who is let in, and how much they may bring."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from filbert.core.errors import BadInput, Forbidden, NoRoom, TooSlow
from filbert.server import door, scopes
from filbert.server.connections import MOST_CONNECTIONS, BoundedConnection
from filbert.server.door import MAX_BODY_BYTES
from filbert.server.entry import check_start, entry_of
from filbert.server.error_bodies import error_answer
from filbert.server.key_ring import KeyRing
from filbert.server.keys import Keys, Wanted
from filbert.server.serve_options import ServeOptions
from running_server import STARTER, WAIT_S, RunningServer, serving

PAGE = "https://app.example"


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


def test_a_body_of_50_mb_is_refused_before_it_is_read(unhurt: RunningServer) -> None:
    before = psutil.Process(unhurt.process.pid).memory_info().rss
    for content in (b"x" * 50_000_000, json.dumps({"model": STARTER, "prompt": "x" * 50_000_000}).encode()):
        answer = unhurt.http.post("/v1/completions", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert psutil.Process(unhurt.process.pid).memory_info().rss < before + 2 * MAX_BODY_BYTES


def test_a_body_without_an_end_is_refused_when_it_is_too_much(unhurt: RunningServer) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 1_000_000

    with suppress(httpx.WriteError):  # the server may hang up while this client still talks
        assert unhurt.http.post("/v1/completions", content=endless()).status_code == 413


BAD_BODIES = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"messages":' * 5000 + b"1" + b"}" * 5000,
    "NaN": b'{"model": "smollm2:135m", "prompt": "x", "temperature": NaN}',
    "Infinity": b'{"model": "smollm2:135m", "prompt": "x", "temperature": Infinity}',
    "cut": b'{"model": "smollm2:135m", "pro',
    "no UTF-8": b'{"model": "smollm2:135m", "prompt": "\xff\xfe"}',
    "half a character": b'{"model": "smollm2:135m", "prompt": "\\ud83d"}',
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "a form": b"model=smollm2&prompt=x",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_is_no_request_is_a_400_on_each_route(unhurt: RunningServer, body: bytes) -> None:
    posts = [route.partition(" ")[2] for route in scopes.INFER | scopes.ADMIN if route.startswith("POST")]
    for path in (path for path in posts if "{" not in path):
        answer = unhurt.http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, "error" in answer.json()) == (400, True), path


@pytest.mark.parametrize("route", ["chat/completions", "completions", "messages"])
def test_a_number_beyond_all_others_is_a_400(server: RunningServer, route: str) -> None:
    body = b'{"model": "smollm2:135m", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, '
    answer = server.http.post(f"/v1/{route}", content=body + b'"temperature": 1e999}')
    assert (answer.status_code, "temperature" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/slots", 404),
        ("POST", "/props", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", f"/v1/models/{STARTER}", 405),
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


# listening beyond this machine


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my-box.lan", "::ffff:127.0.0.1.evil"])
def test_a_server_that_others_reach_needs_a_key_or_an_explicit_no(host: str) -> None:
    with pytest.raises(BadInput, match="needs a key"):
        check_start(ServeOptions(host=host), Keys())
    check_start(ServeOptions(host=host, no_auth=True), Keys())
    Keys().add(Wanted("ada"))
    check_start(ServeOptions(host=host), Keys())
    assert entry_of(ServeOptions(host=host)).without_key is None
    assert entry_of(ServeOptions(host=host, no_auth=True)).without_key == "infer"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_a_server_on_this_machine_needs_none_unless_told(host: str) -> None:
    check_start(ServeOptions(host=host), Keys())
    assert entry_of(ServeOptions(host=host)).without_key == "admin"
    assert entry_of(ServeOptions(host=host, require_key=True)).without_key is None
    with pytest.raises(BadInput, match="asks for keys"):
        check_start(ServeOptions(host=host, require_key=True), Keys())
    with pytest.raises(BadInput, match="contradict"):
        check_start(ServeOptions(host=host, require_key=True, no_auth=True), Keys())


def test_addresses_in_figures_cannot_be_rebound_and_names_are_told() -> None:
    wide = entry_of(ServeOptions(host="0.0.0.0", no_auth=True, allow_host=("My-Box.lan",)))
    for host in ("192.168.1.5:4891", "10.0.0.1", "[fe80::1]:4891", "my-box.lan", "MY-BOX.LAN:80", "localhost:1"):
        wide.check_host(Headers({"host": host}))
    for host in ("evil.example", "my-box.lan.evil.example", "x@my-box.lan", "10.0.0.1.evil.example", "[::1", "1", ""):
        with pytest.raises(Forbidden):
            wide.check_host(Headers({"host": host}))


@pytest.mark.slow
def test_without_keys_others_may_ask_models_and_change_nothing(stocked: Path) -> None:
    with serving(stocked, "--host", "0.0.0.0", "--no-auth", "--context", "512") as server:
        assert server.post(max_tokens=1).status_code == 200
        for method, path in (("DELETE", f"/v1/models/{STARTER}"), ("GET", "/metrics"), ("POST", "/api/pull")):
            assert server.http.request(method, path).status_code == 403
        addresses = [c.laddr.ip for c in psutil.Process(server.process.pid).net_connections("inet") if not c.raddr]
        assert addresses == ["0.0.0.0"]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_server_listens_on_ipv6(home: Path) -> None:
    with serving(home, "--host", "::", "--no-auth") as server:
        assert server.url.startswith("http://[::1]:")
        assert server.http.get("/health").status_code == 200
        assert server.post().status_code == 404
        assert server.http.get("/metrics").status_code == 403  # it can be reached from elsewhere: for admins


# pages


@pytest.fixture(scope="module")
def opened(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that pages of one site may use, and that goes by another name."""
    home = tmp_path_factory.mktemp("opened")
    with serving(home, "--allow-origin", PAGE + "/", "--allow-host", "filbert.test") as running:
        yield running


def test_a_known_page_asks_whether_it_may_and_then_does(opened: RunningServer) -> None:
    wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    asked = opened.http.options("/v1/completions", headers={"Origin": PAGE, "Sec-Fetch-Site": "cross-site", **wants})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    then = opened.http.post(
        "/v1/completions",
        json={"model": "nothing", "prompt": "x"},
        headers={"Origin": PAGE, "Sec-Fetch-Site": "cross-site", "Host": "filbert.test:80"},
    )
    assert (then.status_code, then.headers["access-control-allow-origin"]) == (404, PAGE)
    assert "Origin" in then.headers["vary"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_known_page_writes_json(opened: RunningServer, kind: str) -> None:
    """Other types a browser sends without asking first."""
    headers = {"Origin": PAGE, **({"Content-Type": kind} if kind else {})}
    answer = opened.http.post("/v1/completions", content=b'{"model": "x", "prompt": "x"}', headers=headers)
    assert (answer.status_code, "JSON" in answer.json()["error"]["message"]) == (403, True)
    plain = opened.http.post("/v1/completions", content=b'{"model": "x", "prompt": "x"}')
    assert plain.status_code == 404  # no page: any type is read as JSON


def test_a_page_of_this_server_writes_json_too(opened: RunningServer) -> None:
    pages: list[dict[str, str]] = [
        {"Origin": opened.url},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": opened.url, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ]
    body = b'{"model": "x", "prompt": "x"}'
    for page in pages:
        form = {**page, "Content-Type": "application/x-www-form-urlencoded"}
        refused = opened.http.post("/v1/completions", content=body, headers=form)
        assert (refused.status_code, "JSON" in refused.json()["error"]["message"]) == (403, True)
        written = {**page, "Content-Type": "application/json; charset=utf-8"}
        assert opened.http.post("/v1/completions", content=body, headers=written).status_code == 404
        assert opened.http.get("/v1/models", headers=page).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://app.example.evil"},
        {"Origin": "http://app.example"},
        {"Origin": "https://app.example:444"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": PAGE, "Host": "evil.example"},
    ],
    ids=str,
)
def test_to_know_one_page_lets_no_other_in(opened: RunningServer, headers: dict[str, str]) -> None:
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    for answer in (opened.http.get("/v1/models", headers=headers), opened.http.options("/api/chat", headers=preflight)):
        assert answer.status_code == 403
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_page_is_asked_for_its_key_in_words_it_can_read(stocked: Path) -> None:
    keys = Keys()
    key = keys.add(Wanted("page"))[1]
    keys.close()
    with serving(stocked, "--require-key", "--allow-origin", PAGE) as server:
        wants = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
        assert server.http.options("/v1/models", headers=wants).status_code == 200  # browsers ask this without a key
        without = server.http.get("/v1/models", headers={"Origin": PAGE})
        assert (without.status_code, without.headers["access-control-allow-origin"]) == (401, PAGE)
        assert server.http.get("/v1/models", headers={"Origin": PAGE, "x-api-key": key}).status_code == 200


# time and number


def test_a_body_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_S", 0.1)

    async def drop_by_drop() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(TooSlow):
        asyncio.run(door.read_body(Headers({}), drop_by_drop))


class Hasty(BoundedConnection):
    head_s = unread_s = 0.5
    kept_s = 1


@contextmanager
def connections(app: ASGIApp = PlainTextResponse("hello")) -> Iterator[int]:  # noqa: B008
    """The port of a server whose connections may be silent for half a second."""
    config = uvicorn.Config(app, http=Hasty, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"\r\n"], ids=repr)
def test_a_connection_that_never_says_what_it_wants_is_closed(said: bytes) -> None:
    """Half-open sockets, and heads that come byte by byte."""
    with connections() as port, socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
        raw.sendall(said)
        assert raw.recv(100) == b""


def test_a_head_that_comes_byte_by_byte_after_an_answer_is_closed_too() -> None:
    with connections() as port, socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"hello" in raw.recv(1000)
        raw.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert closed_while_it_drips(raw)


def test_a_body_that_never_ends_is_told_and_its_connection_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_S", 0.2)
    app = door.Turnstile(PlainTextResponse("hello"), entry_of(ServeOptions()), KeyRing(Keys()))
    with connections(app) as port, socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        told = b"".join(iter(lambda: raw.recv(1000), b""))
    assert told.startswith(b"HTTP/1.1 408 ") and b"seconds" not in told


def test_a_reader_that_takes_nothing_is_let_go_and_little_waits_for_it() -> None:
    written: queue.SimpleQueue[int] = queue.SimpleQueue()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        left, n_bytes = asyncio.ensure_future(receive()), 0
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            n_bytes += 10_000
            await asyncio.sleep(0)
        written.put(n_bytes)

    with connections(endless) as port, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert written.get(timeout=WAIT_S) < 1_000_000


def test_a_connection_that_is_only_kept_is_closed_after_a_while() -> None:
    with connections() as port, socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"".join(iter(lambda: raw.recv(1000), b"")).endswith(b"hello")


def closed_while_it_drips(raw: socket.socket) -> bool:
    raw.settimeout(0.05)
    for _ in range(200):
        try:
            raw.sendall(b"x")
            if raw.recv(100) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_more_than_512_connections_are_told_to_come_back(stocked: Path) -> None:
    with serving(stocked, "--context", "512") as server:
        port = int(server.url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS)]
        refused = server.http.get("/health")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_room")
        assert int(refused.headers["retry-after"]) > 0
        for each in silent:
            each.close()
        end = time.monotonic() + WAIT_S
        while (status := server.http.get("/health").status_code) == 503:
            assert time.monotonic() < end
        assert status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_who_finds_no_room_is_told_when_to_ask_again(path: str) -> None:
    no_room = NoRoom("x has no memory for its text worker.", do="Close other models.")
    answer = error_answer(no_room, {"type": "http", "path": path, "headers": []})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# HTTPS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def test_the_server_speaks_https_with_a_certificate(stocked: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with serving(stocked, "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=server.url, verify=trusting, timeout=WAIT_S) as client:
            assert client.get("/health").json() == {"status": "ok"}
            own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
            assert client.get("/v1/models", headers=own).status_code == 200
            other = {"Origin": server.url.replace("https", "http")}
            assert client.get("/v1/models", headers=other).status_code == 403
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https", "http") + "/health")


def test_a_certificate_that_cannot_be_used_is_told_before_anything_starts(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", str(key), "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    for wrong in ((str(cert), ""), ("", str(key)), (str(cert), str(cert)), (str(key), "nowhere"), (cert, locked)):
        with pytest.raises(BadInput, match="HTTPS"):
            check_start(ServeOptions(tls_cert=str(wrong[0]), tls_key=str(wrong[1])), Keys())
