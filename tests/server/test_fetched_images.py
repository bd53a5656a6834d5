"""Images by address: what is fetched, and that nothing else is reached, by a web whose names and hosts are the test's."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import make_tiny
from filbert.core.errors import BadInput, Busy
from filbert.core.images import MOST_PIXELS
from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.models import store
from filbert.server import fetched_images
from filbert.server.app import make_app
from filbert.server.fetched_images import MOST_HOPS, MOST_IMAGES, MOST_REQUESTS, ImageFetcher
from filbert.server.offered import Offered
from filbert.server.serve_options import ServeOptions
from running_server import serving

OPEN, CLOSED = "127.0.0.1", "127.0.0.2"  # in place of a public host, and of one of this network
CERTIFICATE = Path(__file__).parent.parent / "models" / "localhost.pem"
WAIT_S = 60
Hurt = pytest.mark.usefixtures("at_once")


def picture(width: int = 4) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, 4), "red").save(file, "PNG")
    return file.getvalue()


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *more, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def onward(to: str) -> bytes:
    return answer(b"", "302 Found", f"Location: {to}")


def bomb() -> bytes:
    file = BytesIO()
    Image.new("1", (10_000, MOST_PIXELS // 10_000 + 1)).save(file, "PNG")
    return file.getvalue()


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n"


class Web:
    """Names, two hosts with the same pages, and what each was asked."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {"a.example": [[OPEN]]}  # one answer a lookup, the last for good
        self.pages: dict[str, bytes] = {"/red.png": answer(picture())}
        self.asked: dict[str, list[str]] = {OPEN: [], CLOSED: []}
        self.looked_up: list[str] = []
        self.sent_bytes, self.most_open, self.now_open = 0, 0, 0
        self.port = 0
        self.hold = asyncio.Event()

    def url(self, path: str = "/red.png", host: str = "a.example", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        if host not in self.names:
            found = await asyncio.get_running_loop().getaddrinfo(host, port)
            return [str(each[4][0]) for each in found]
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now_open += 1
        self.most_open = max(self.most_open, self.now_open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked[writer.get_extra_info("sockname")[0]].append(head)
            path = head.split(" ")[1]
            if path == "/held":
                await self.hold.wait()
            writer.write(self.pages.get(path, answer(b"", "404 Not Found")))
            await writer.drain()
            while path in ("/endless", "/slow"):
                writer.write(bytes(1 if path == "/slow" else 1 << 16))
                self.sent_bytes += 1 << 16
                await writer.drain()
                await asyncio.sleep(0.05 if path == "/slow" else 0)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.now_open -= 1
            writer.close()


@asynccontextmanager
async def web(certificate: Path | None = None) -> AsyncIterator[Web]:
    made, trusted = Web(), None
    if certificate:
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trusted.load_cert_chain(certificate)
    servers = [await asyncio.start_server(made.serve, OPEN, 0, ssl=trusted)]
    made.port = servers[0].sockets[0].getsockname()[1]
    servers.append(await asyncio.start_server(made.serve, CLOSED, made.port, ssl=trusted))
    try:
        yield made
    finally:
        made.hold.set()
        for server in servers:
            server.close()


def fetcher_of(web: Web, **options: object) -> ImageFetcher:
    return ImageFetcher(web.resolve, may_ask=OPEN.__eq__, **options)  # type: ignore[arg-type]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are told as soon as they are known."""
    monkeypatch.setattr(fetched_images, "TOLD_AFTER_S", 0)


def played(act: Callable[[Web], Awaitable[None]], certificate: Path | None = None) -> None:
    async def play() -> None:
        async with asyncio.timeout(WAIT_S), web(certificate) as made:
            await act(made)

    asyncio.run(play())


async def refused(fetcher: ImageFetcher, url: str) -> str:
    """The sentence, without what was asked for."""
    with pytest.raises(BadInput) as caught:
        await fetcher.fetch([url])
    said = str(caught.value)
    assert said.startswith(repr(url[:100]))
    return said.removeprefix(repr(url[:100]))


def test_an_image_is_fetched_over_redirects_with_the_name_and_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.2:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.2:1")

    async def act(web: Web) -> None:
        web.names["b.example"] = [[OPEN]]
        web.pages |= {
            "/1": onward("/2"),
            "/2": answer(b"", "307 Temporary Redirect", f"Location: {web.url('/3', 'b.example')}", "Set-Cookie: a=b"),
            "/3": onward(web.url("/red.png?x=1", "B.EXAMPLE")),
            "/red.png?x=1": answer(picture(), "200 OK", "Content-Type: text/html"),
        }
        held = await fetcher_of(web).fetch([web.url("/1")])
        assert held == {web.url("/1"): f"data:;base64,{base64.b64encode(picture()).decode()}"}
        assert web.looked_up == ["a.example", "a.example", "b.example", "b.example"]
        *_, third, last = web.asked[OPEN]
        assert last.startswith("GET /red.png?x=1 HTTP/1.1\r\n") and f"Host: b.example:{web.port}\r\n" in third
        assert not any(word in "".join(web.asked[OPEN]).lower() for word in ("cookie", "authorization", "referer"))

    played(act)


@Hurt
def test_a_host_that_is_not_public_is_never_connected_to_however_it_is_written() -> None:
    async def act(web: Web) -> None:
        fetcher = fetcher_of(web)
        web.names |= {"in.example": [[CLOSED]], "both.example": [[OPEN, CLOSED]], "none.example": [[]]}
        hosts = [
            *(CLOSED, "in.example", "both.example", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "0x7f.2"),
            *("[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "[64:ff9b::7f00:2]", "[2002:7f00:2::]", "[::1]", "[::]", "0"),
            *("①②⑦.⓪.⓪.②", "127。0。0。2", "none.example", "nobody.invalid", "a.example." + "a" * 70),
        ]
        said = {await refused(fetcher, web.url(host=host)) for host in hosts}
        web.pages |= {f"/to{i}": onward(web.url(host=host)) for i, host in enumerate(hosts)}
        said |= {await refused(fetcher, web.url(f"/to{i}")) for i in range(len(hosts))}
        others = ["file:///etc/hostname", "ftp://a.example/x.png", f"gopher://{CLOSED}:{web.port}/_GET", "//"]
        web.pages |= {f"/other{i}": onward(to) for i, to in enumerate(others)}
        said |= {await refused(fetcher, web.url(f"/other{i}")) for i in range(len(others))}
        odd = [f"http://{CLOSED}#@a.example", "http://a.example\\@127.0.0.2/", "http://", "http:///x", "http://a b/"]
        odd += ["http://u:p@a.example/", "https://@:0/", "http://a.example:99999/", "http://[::1", "http://x\r\ny/"]
        said |= {await refused(fetcher, url) for url in odd}
        said |= {await refused(fetcher, "http://a.example:1/red.png"), await refused(fetcher, web.url("/missing"))}
        assert len(said) == 1, said
        assert not web.asked[CLOSED]
        assert not any(figures in next(iter(said)) for figures in (OPEN, CLOSED))

    played(act)


def test_failures_that_are_known_at_once_take_as_long_as_others() -> None:
    async def act(web: Web) -> None:
        web.names["in.example"] = [[CLOSED]]
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def took(url: str) -> float:
            await refused(fetcher_of(web), url)
            return loop.time() - began

        urls = [web.url(host="in.example"), web.url("/missing"), "http://x y/"]
        assert min(await asyncio.gather(*map(took, urls))) >= fetched_images.TOLD_AFTER_S

    played(act)


@Hurt
def test_a_name_that_means_another_host_a_moment_later_gains_nothing() -> None:
    async def act(web: Web) -> None:
        web.names["rebind.example"] = [[OPEN], [CLOSED]]
        assert await fetcher_of(web).fetch([web.url(host="rebind.example")])
        assert web.looked_up == ["rebind.example"]
        web.names["rebind.example"] = [[OPEN], [CLOSED]]
        web.pages["/again"] = onward(web.url(host="rebind.example"))
        await refused(fetcher_of(web), web.url("/again", "rebind.example"))
        assert not web.asked[CLOSED]

    played(act)


@Hurt
def test_more_redirects_than_a_few_are_not_followed() -> None:
    async def act(web: Web) -> None:
        web.pages |= {f"/{i}": onward(f"/{i + 1}") for i in range(9)}
        await refused(fetcher_of(web), web.url("/0"))
        assert len(web.asked[OPEN]) == MOST_HOPS + 1

    played(act)


@Hurt
def test_a_body_is_ended_once_it_is_no_image_or_too_large_or_too_slow() -> None:
    async def act(web: Web) -> None:
        web.pages |= {
            "/endless": ENDLESS,
            "/slow": ENDLESS,
            "/page": answer(b"<html>" * 9, "200 OK", "Content-Type: image/png"),
        }
        web.pages |= {
            "/short": answer(b"GI"),
            "/none": answer(b""),
            "/zip": answer(picture(), "200 OK", "Content-Encoding: gzip"),
        }
        said = {await refused(fetcher_of(web), web.url(path)) for path in ("/endless", "/page", "/short", "/none")}
        assert web.sent_bytes < 64 << 20
        said |= {await refused(fetcher_of(web, longest_s=0.5), web.url(path)) for path in ("/slow", "/held")}
        assert len(said) == 1
        assert await fetcher_of(web).fetch([web.url("/zip")])  # as it came: nothing is unpacked

    played(act)


@Hurt
def test_the_images_of_a_request_share_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_images, "MAX_BODY_BYTES", int(2.5 * len(picture())))

    async def act(web: Web) -> None:
        web.pages |= {f"/{i}": answer(picture()) for i in range(3)}
        assert len(await fetcher_of(web).fetch([web.url("/0"), web.url("/1")])) == 2
        with pytest.raises(BadInput):
            await fetcher_of(web).fetch([web.url(f"/{i}") for i in range(3)])

    played(act)


@Hurt
def test_images_are_fetched_at_once_but_not_all() -> None:
    async def act(web: Web) -> None:
        web.pages["/held"] = answer(picture())
        fetcher = fetcher_of(web)
        urls = [web.url(f"/held#{i}") for i in range(MOST_IMAGES)]
        with pytest.raises(BadInput, match=f"may name {MOST_IMAGES} images"):
            await fetcher.fetch([*urls, web.url()])
        first = asyncio.create_task(fetcher.fetch(urls))
        while web.now_open < fetched_images.AT_ONCE:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(fetcher.fetch([web.url("/held")])) for _ in range(MOST_REQUESTS - 1)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="Too many images"):
            await fetcher.fetch([web.url()])
        web.hold.set()
        assert len(await first) == MOST_IMAGES and all(await asyncio.gather(*others))
        assert web.most_open <= fetched_images.AT_ONCE + MOST_REQUESTS
        assert await fetcher.fetch([web.url()])

    played(act)


@Hurt
def test_over_https_the_name_is_proved_and_http_is_no_way_on() -> None:
    async def act(web: Web) -> None:
        web.names |= {"localhost": [[OPEN]], "in.example": [[CLOSED]]}
        trusting = ssl.create_default_context(cafile=CERTIFICATE)
        fetcher = fetcher_of(web, trusted=trusting)
        assert await fetcher.fetch([web.url(host="localhost", scheme="https")])
        web.pages["/off"] = onward(web.url(host="localhost"))
        for url in (web.url(scheme="https"), web.url("/off", "localhost", "https")):
            await refused(fetcher, url)
        await refused(fetcher_of(web), web.url(host="localhost", scheme="https"))  # by a certificate of nobody's

    played(act, CERTIFICATE)


def test_left_alone_it_asks_no_host_of_this_machine() -> None:
    async def act(web: Web) -> None:
        fetcher = ImageFetcher()
        with pytest.raises(BadInput):
            await fetcher.fetch([web.url(host=host) for host in (OPEN, "localhost", "0", "[::1]")])
        fetcher.close()
        assert web.asked == {OPEN: [], CLOSED: []}

    played(act)


@Hurt
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=40), st.sampled_from(["http://", "https://", "http://a.example", "HTTP:", "http://[", "http://a@"])
)
def test_whatever_an_address_is_the_answer_is_the_sentence(rest: str, begins: str) -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.1"]

    fetcher = ImageFetcher(nowhere, trusted=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert "gives no image" in asyncio.run(refused(fetcher, begins + rest))


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model that sees."""
    folder = tmp_path_factory.mktemp("seeing")
    path, _ = make_tiny.vision(folder / "seeing.gguf", folder / "mmproj-seeing.gguf")
    return path


def chat_with(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def response_with(url: str) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}


def message_with(url: str) -> dict[str, Any]:
    source = {"type": "url", "url": url}
    return {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}], "max_tokens": 1}


ROUTES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": chat_with,
    "/v1/responses": response_with,
    "/v1/messages": message_with,
    "/v1/messages/count_tokens": message_with,
}


def tokens_in(said: dict[str, Any]) -> int:
    """Of the prompt, in each protocol's words."""
    usage = said.get("usage", said)
    remembered = usage.get("cache_read_input_tokens", 0)
    return int(usage.get("prompt_tokens") or usage["input_tokens"] + remembered)


@Hurt
def test_every_protocol_sees_the_image_as_if_it_had_been_sent(seeing: Path) -> None:
    async def act(web: Web) -> None:
        web.pages |= {"/wide.png": answer(picture(40)), "/bomb.png": answer(bomb()), "/page": answer(b"<html></html>")}
        pool = Pool(LoadOptions(context=512), 300)
        offered = Offered(pool)
        name = await asyncio.to_thread(lambda: offered.add(store.resolve(str(seeing))).name)
        app = make_app(offered, ServeOptions(), fetcher=fetcher_of(web))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=WAIT_S) as client:

            async def asked(route: str, url: str) -> httpx.Response:
                fields = {"model": name, "grammar": 'root ::= "x"'}
                return await client.post(route, json=ROUTES[route](url) | fields)

            sent = f"data:image/png;base64,{base64.b64encode(picture(40)).decode()}"
            for route in ROUTES:
                named = (await asked(route, web.url("/wide.png"))).json()
                assert tokens_in(named) == tokens_in((await asked(route, sent)).json()), named
                for path, says in (("/bomb.png", "megapixels"), ("/page", "gives no image")):
                    refused = await asked(route, web.url(path))
                    assert refused.status_code == 400 and says in refused.text
            before = len(web.asked[OPEN])
            first = (await asked("/v1/responses", web.url("/wide.png"))).json()
            kept = (await client.get(f"/v1/responses/{first['id']}/input_items")).json()["data"]
            assert kept[0]["content"][0]["image_url"].startswith("data:;base64,")
            again = {"model": name, "input": "?", "previous_response_id": first["id"], "grammar": 'root ::= "x"'}
            assert (await client.post("/v1/responses", json=again)).status_code == 200
            assert len(web.asked[OPEN]) == before + 1  # what was kept is not fetched again
            unknown = await client.post("/v1/messages", json=message_with(web.url()) | {"model": "nobody"})
            assert unknown.status_code == 404 and len(web.asked[OPEN]) == before + 1
        await asyncio.to_thread(offered.close)

    played(act)


@pytest.mark.slow
def test_the_flag_lets_a_server_fetch_and_from_no_host_of_its_own(seeing: Path, home: Path) -> None:
    async def act(web: Web) -> None:
        with serving(home, "-m", str(seeing), "--context", "512", "--fetch-images") as server:
            for route, made in ROUTES.items():
                body = {"model": "seeing", **made(web.url(host=OPEN))}
                refused = await asyncio.to_thread(server.http.post, route, json=body)
                assert refused.status_code == 400 and "gives no image" in refused.json()["error"]["message"]
        assert web.asked == {OPEN: [], CLOSED: []}

    played(act)
