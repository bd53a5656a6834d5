"""Another server: asked over HTTP, and looked after."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from filbert.core.errors import (
    BadRequest,
    BadSetting,
    Busy,
    ContextOverflow,
    FilbertError,
    UpstreamDown,
    UpstreamError,
    UpstreamLoop,
    UpstreamStalled,
)
from filbert.core.log import log
from filbert.core.other_servers import problem
from filbert.engine.admission import Admission
from filbert.server.upstreams import hops
from filbert.server.upstreams.options import UpstreamOptions
from filbert.version import __version__

CONNECT_S = 5.0
WRITE_S = 30.0
CHECK_S = 10.0  # a whole look at it may take
DOCUMENT_S = 600.0  # and an answer that comes as one document
LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0  # between two looks at a server that is down
REUSED_S = 2.0  # a connection that is idle for longer may be closed at its other end already
MOST_ANSWER = 64 << 20
MOST_DOCUMENT = 16 << 20
MOST_LIST = 4 << 20
MOST_REFUSAL = 64 << 10
MOST_MODELS = 1000
MODEL_ID = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,256}")
LATER = "Ask again later, or take another model."


class Row(BaseModel):
    id: str
    owned_by: str | None = None
    remote: bool = False


class Page(BaseModel):
    data: list[Row] = Field(max_length=100_000)


class Upstream:
    """Asked from the event loop; what is known of it may be read from any thread. models: their names there; trouble:
    why it cannot be asked, "" while it can."""

    def __init__(self, name: str, options: UpstreamOptions) -> None:
        """Raises BadSetting for a key that is not there."""
        self.name, self.options = name, options
        self.models: tuple[str, ...] | None = None  # nobody knows yet
        self.is_filbert = False
        self.trouble = "It was not asked yet."
        self.admission = Admission(options.parallel, options.parallel)
        self._key = options.key(name)
        self._client = _client(options, self._key)
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def asked(self, route: str, body: Mapping[str, Any] | None = None) -> AsyncIterator[httpx.Response]:
        """Its answer under way, to a POST where there is a body. Nothing of a client's request is sent but the body:
        neither its key nor its headers. Raises UpstreamError and what the server refuses."""
        content = None if body is None else json.dumps(body).encode()
        try:
            request = self._client.build_request(
                "GET" if body is None else "POST",
                self.options.url + route,
                content=content,
                headers={"via": hops.via()},
            )
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise await self._refusal(response)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise self.junk("It compressed its answer, which it was asked not to.")
                yield response
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            self._is_down(str(exc) or type(exc).__name__)
            raise self.down() from exc
        except httpx.TimeoutException as exc:
            raise self._stalled() from exc
        except (httpx.HTTPError, httpx.StreamError) as exc:
            why = f"{exc or type(exc).__name__}."
            raise UpstreamError(f"The server {self.name} broke off.", why=why, do="Ask again.") from exc

    async def document(self, route: str, body: Mapping[str, Any], owner: str, most_waiting: int | None) -> bytes:
        """A whole answer, once it is its turn. Raises what `asked` raises, and Busy where so many wait already."""
        place = self.admission.ask(1, owner, most_waiting)
        try:
            await place.reach()
            return await self._whole(route, body, DOCUMENT_S, MOST_DOCUMENT)
        finally:
            place.give_back()

    async def pieces(self, response: httpx.Response, most: int = MOST_ANSWER) -> AsyncIterator[bytes]:
        """The bytes of an answer as they come. Raises UpstreamError for too many."""
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > most:
                raise self.junk(f"Its answer has more than {most >> 20} MiB.")
            yield piece

    async def look_after(self, looked: asyncio.Event) -> None:
        """Ask for its models again and again; what is down is asked ever more rarely, or when somebody wants it.
        looked: is set after the first time."""
        failures = 0
        while True:
            await self.check()
            looked.set()
            failures = failures + 1 if self.trouble else 0
            pause_s = (
                min(LEAST_PAUSE_S * 2 ** min(failures - 1, 10), MOST_PAUSE_S) if failures else self.options.check_s
            )
            await asyncio.sleep(LEAST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s - LEAST_PAUSE_S):
                    await self._wanted.wait()
            self._wanted.clear()

    async def check(self) -> None:
        try:
            page = Page.model_validate_json(await self._whole("/models", None, CHECK_S, MOST_LIST))
        except UpstreamDown:
            return  # it was told already
        except FilbertError as exc:
            self._is_down(" ".join(filter(None, (exc.what, exc.why))))
        except ValidationError:
            self._is_down("Its list of models is none.")
        else:
            self._is_up(page)

    def need_up(self) -> None:
        """Raises UpstreamDown, and then has it looked at soon."""
        if self.trouble:
            self._wanted.set()
            raise self.down()

    def down(self) -> UpstreamDown:
        return UpstreamDown(f"The server {self.name} does not answer.", why=self.trouble, do=LATER)

    def junk(self, why: str) -> UpstreamError:
        return UpstreamError(f"The server {self.name} answered what cannot be used.", why=why, do=LATER)

    def said_error(self, status: int, said: bytes | Mapping[str, Any]) -> FilbertError:
        """What it said went wrong, in our words: its own reach a client only where they are about the request."""
        code, message = problem(said)
        message = message.replace(self._key, "…") if self._key else message
        if code == "context_length_exceeded":
            what = f"The conversation is too long for the model on {self.name}."
            return ContextOverflow(what, do="Shorten it, or take a model with more context.")
        if status == 429:
            return Busy(f"The server {self.name} is busy.", do="Ask again in a moment.", retry_after_s=5)
        if status == 508 or code == "upstream_loop":
            return UpstreamLoop(f"The request came back to a server by {self.name}.", do="Take one of them out.")
        if status in (400, 404, 413, 415, 422):
            what = f"The server {self.name} refused the request."
            return BadRequest(
                what, why=f"It says: {message.rstrip('.')}." if message else "", do="Change what it names."
            )
        if 300 <= status < 400:
            return self.junk("It sends on to another address, which is not followed.")
        if status in (401, 402, 403):
            what = f"The server {self.name} does not let this one in."
            return UpstreamError(
                what, why=f"It answered {status}.", do="Whoever runs this server can give another key."
            )
        return UpstreamError(f"The server {self.name} failed.", why=f"It answered {status}.", do=LATER)

    async def close(self) -> None:
        await self._client.aclose()

    async def _whole(self, route: str, body: Mapping[str, Any] | None, most_s: float, most: int) -> bytes:
        try:
            async with asyncio.timeout(most_s), self.asked(route, body) as response:
                return b"".join([piece async for piece in self.pieces(response, most)])
        except TimeoutError as exc:
            raise self._stalled() from exc

    def _is_up(self, page: Page) -> None:
        if self.trouble:
            log.info("the server %s answers", self.name)
        # What another Filbert asks of others is not offered on: lists would grow round a ring of servers.
        ids = (row.id for row in page.data[:MOST_MODELS] if MODEL_ID.fullmatch(row.id) and not row.remote)
        self.models = tuple(dict.fromkeys(ids))
        self.is_filbert = any(row.owned_by == "filbert" for row in page.data)
        self.trouble = ""

    def _is_down(self, why: str) -> None:
        if why != self.trouble:
            log.warning("the server %s does not answer: %s", self.name, why)
        self.trouble = why

    def _stalled(self) -> UpstreamStalled:
        return UpstreamStalled(f"The server {self.name} fell silent.", do=LATER)

    async def _refusal(self, response: httpx.Response) -> FilbertError:
        said = b""
        async for piece in response.aiter_raw():
            said += piece
            if len(said) > MOST_REFUSAL:
                break
        return self.said_error(response.status_code, said)


def _client(options: UpstreamOptions, key: str) -> httpx.AsyncClient:
    """Follows no redirect and keeps no cookie. Proxies and certificates come from the environment, but for what is not
    encrypted: a proxy would read the key."""
    headers = {"User-Agent": f"filbert/{__version__}", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        httpx.URL(options.url)
    except httpx.InvalidURL as exc:
        raise BadSetting(f"{options.url} is no address.", why=f"{exc}.", do="Mend it.") from exc
    return httpx.AsyncClient(
        headers={**headers, "Content-Type": "application/json"},
        follow_redirects=False,
        trust_env=options.url.startswith("https:"),
        timeout=httpx.Timeout(options.stall_s, connect=CONNECT_S, write=WRITE_S, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=REUSED_S),
        cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
    )
