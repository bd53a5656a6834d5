"""Images that requests name by an address of the web: fetched, where whoever started the server allowed it.

Whoever asks chooses the address, and the server may reach what they cannot. So only public hosts are asked
(public_hosts.py), and all that goes wrong is told in one sentence: it does not say what there is, or is not.
"""

from __future__ import annotations

import asyncio
import base64
import operator
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import httpcore
import httpx
from fastapi import Request
from pydantic import BaseModel

from filbert.core.addresses import is_elsewhere
from filbert.core.errors import BadInput, Busy
from filbert.core.images import is_image
from filbert.core.log import log
from filbert.engine.sight import need_sight_of
from filbert.server.bodies import Pictured
from filbert.server.door import MAX_BODY_BYTES
from filbert.server.json_route import offered_by
from filbert.server.public_hosts import Lookups, NotPublic, PublicHosts, Resolve
from filbert.version import __version__

MOST_IMAGES = 32  # of one request
AT_ONCE = 4  # of one request
MOST_REQUESTS = 16  # that fetch at once
MOST_HOPS = 3
LONGEST_S = 20.0  # for all images of a request
TOLD_AFTER_S = 1.0  # how soon something failed would tell what the sentence does not
HEAD_BYTES = 12  # by which an image is known
PORTS = {None, *range(1, 1 << 16)}
ONWARD = (301, 302, 303, 307, 308)
HEADERS = (("User-Agent", f"filbert/{__version__}"), ("Accept", "image/*"), ("Accept-Encoding", "identity"))


class Asks(Protocol):
    @property
    def model(self) -> str: ...


AnyBody = TypeVar("AnyBody", bound=Asks)


class Unfit(Exception):
    """Why a file was not taken, for our log."""


FAILURES = (
    Unfit,
    NotPublic,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,  # a name that is not known; a TimeoutError as well
    ValueError,  # a name that is none
)


async def with_images(body: AnyBody, request: Request) -> AnyBody:
    """The request with each image in the place of its address. Raises BadInput, Busy, UnknownModel."""
    named = dict.fromkeys(part.url for part in pictured(body) if not part.url.startswith("data:"))
    if not named:
        return body
    fetcher: ImageFetcher | None = request.app.state.image_fetcher
    if fetcher is None:
        raise BadInput(
            "An image is taken as a data: address only; nothing is fetched.",
            do="Send the image itself: data:image/png;base64,… The server fetches with `filbert serve --fetch-images`.",
        )
    need_sight_of(await asyncio.to_thread(offered_by(request).find, body.model))
    with_all: AnyBody = in_place(body, await fetcher.fetch(list(named)))
    return with_all


def pictured(node: Any) -> Iterator[Pictured]:
    """The images of a request."""
    if isinstance(node, Pictured):
        yield node
    elif isinstance(node, BaseModel | list):
        for inner in node if isinstance(node, list) else node.__dict__.values():
            yield from pictured(inner)


def in_place(node: Any, held: dict[str, str]) -> Any:
    """A request with the images in the place of their addresses; what holds none stays the same object, so that it is
    still known which fields were sent. held: the data: address of each."""
    if isinstance(node, Pictured):
        return node.holding(held[node.url]) if node.url in held else node
    if isinstance(node, list):
        changed = [in_place(inner, held) for inner in node]
        return node if all(map(operator.is_, changed, node)) else changed
    if isinstance(node, BaseModel):
        inside = {name: in_place(inner, held) for name, inner in node.__dict__.items()}
        changes = {name: new for name, new in inside.items() if new is not node.__dict__[name]}
        return node.model_copy(update=changes) if changes else node
    return node


class Allowance:
    """The bytes that the images of one request may have together, as in its body."""

    def __init__(self) -> None:
        self._left = MAX_BODY_BYTES

    def take(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left < 0:
            raise Unfit("more bytes than are taken")


class ImageFetcher:
    """Fetches for all requests of a server. No cookies, no proxies, no names and passwords, nothing of the request."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        may_ask: Callable[[str], bool] = is_elsewhere,
        trusted: ssl.SSLContext | None = None,
        longest_s: float = LONGEST_S,
    ) -> None:
        """may_ask: whether an address in figures may be connected to; trusted: whose certificates are believed."""
        self._lookups = Lookups()
        self._hosts = PublicHosts(resolve or self._lookups, may_ask)
        self._trusted = trusted or httpx.create_ssl_context()
        self._longest_s = longest_s
        self._requests = 0

    def close(self) -> None:
        self._lookups.close()

    async def fetch(self, addresses: Sequence[str]) -> dict[str, str]:
        """By its address, the data: address of each image. Raises BadInput, Busy."""
        if len(addresses) > MOST_IMAGES:
            raise BadInput(f"A request may name {MOST_IMAGES} images by address.", do="Send others themselves.")
        with self._turn():
            allowance, slots = Allowance(), asyncio.Semaphore(AT_ONCE)
            ends = asyncio.get_running_loop().time() + self._longest_s
            try:
                async with asyncio.TaskGroup() as group:
                    asked = {url: group.create_task(self._one(url, allowance, slots, ends)) for url in addresses}
            except ExceptionGroup as exc:
                raise exc.exceptions[0] from None
        return {url: task.result() for url, task in asked.items()}

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._requests >= MOST_REQUESTS:
            raise Busy("Too many images are being fetched.", do="Ask again, or send the image itself.")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def _one(self, url: str, allowance: Allowance, slots: asyncio.Semaphore, ends: float) -> str:
        loop = asyncio.get_running_loop()
        told = loop.time() + TOLD_AFTER_S
        try:
            async with asyncio.timeout_at(ends), slots:
                data = await self._file(url, allowance)
        except FAILURES as exc:
            log.info("an image was not fetched: %s", exc or type(exc).__name__)
            await asyncio.sleep(told - loop.time())
            raise _unfit(url) from None
        return f"data:;base64,{base64.b64encode(data).decode()}"

    async def _file(self, url: str, allowance: Allowance) -> bytes:
        """Each hop is a connection of its own, so that each host is looked at."""
        at = _web_address(url)
        for _ in range(MOST_HOPS + 1):
            async with (
                httpcore.AsyncConnectionPool(self._trusted, network_backend=self._hosts) as pool,
                pool.stream("GET", _exact(at), headers=[("Host", at.netloc), *HEADERS]) as answer,
            ):
                if answer.status == 200:
                    return await _image(answer, allowance)
                if answer.status not in ONWARD:
                    raise Unfit(f"the host answered {answer.status}")
                at = _onward(at, answer)
        raise Unfit(f"more than {MOST_HOPS} redirects")


def _web_address(url: str | httpx.URL) -> httpx.URL:
    """The one reading of an address: what it says of the host is what is looked up, asked for and proved."""
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise Unfit("no address") from exc
    if read.scheme not in ("http", "https") or not read.host or read.userinfo or read.port not in PORTS:
        raise Unfit("no plain address of the web")
    return read


def _onward(at: httpx.URL, answer: httpcore.Response) -> httpx.URL:
    location = {name.lower(): value for name, value in answer.headers}.get(b"location", b"")
    try:
        onward = _web_address(at.join(location.decode()))
    except httpx.InvalidURL as exc:
        raise Unfit("a redirect to no address") from exc
    if at.scheme == "https" and onward.scheme != "https":
        raise Unfit("a redirect off https")
    return onward


def _exact(at: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=at.raw_scheme, host=at.raw_host, port=at.port, target=at.raw_path)


async def _image(answer: httpcore.Response, allowance: Allowance) -> bytes:
    """Ended with the first bytes where they are no image's, whatever type the host says they are."""
    data = bytearray()
    async for piece in answer.aiter_stream():
        allowance.take(len(piece))
        data += piece
        if len(data) >= HEAD_BYTES and not is_image(bytes(data[:HEAD_BYTES])):
            break
    if not is_image(bytes(data[:HEAD_BYTES])):
        raise Unfit("no image")
    return bytes(data)


def _unfit(url: str) -> BadInput:
    return BadInput(
        f"{url[:100]!r} gives no image.",
        why=f"It must be public, without a password, and within {LONGEST_S:.0f} s and {MAX_BODY_BYTES >> 20} MiB an "
        "image: PNG, JPEG, WebP, GIF or BMP.",
        do="Send the image itself: data:image/png;base64,…",
    )
