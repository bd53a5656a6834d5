"""What is let in: names and pages this server answers to, and behind that keys and bodies of bounded size.

Two doors, since what a known page is told (CORS) stands between them: a browser asks without a key whether it may ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from filbert.core.errors import BodyTooLarge, FilbertError, Forbidden, NoRoom, TooSlow, Unauthorized, UnknownRoute
from filbert.server import scopes
from filbert.server.connections import CROWDED
from filbert.server.entry import Entry
from filbert.server.error_bodies import error_answer
from filbert.server.key_ring import KeyRing
from filbert.server.keys import Key
from filbert.server.keys import Scope as KeyScope
from filbert.server.measured import measured_of
from filbert.server.offered import KEPT_FOR, MODELS_SHOWN
from filbert.server.readiness import Readiness
from filbert.server.upstreams.hops import check_hops

MAX_BODY_BYTES = 16 << 20
BODY_S = 60.0  # so long a body may take to arrive
PASSED_OVER_S = 5.0  # and so long one that nobody will read
ANYBODY = "anybody"  # who brings no key, and may not do everything without


class Door:
    """ASGI middleware, the outer one: refuses pages and names it does not know, and whoever comes when the server
    ends."""

    def __init__(self, app: ASGIApp, entry: Entry, readiness: Readiness) -> None:
        self._app, self._entry, self._readiness = app, entry, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except FilbertError as exc:
                await refuse(exc, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._entry.check_host(headers)
        self._entry.check_origin(headers, scope["scheme"], scope["method"])
        self._readiness.check_open(scope["path"])
        check_hops(headers)
        if scope.get("state", {}).get(CROWDED):
            raise NoRoom("Too many programs are connected to this server.", do="Ask again later.")


class Turnstile:
    """ASGI middleware, the inner one: looks at the key, which it names in `request.state.key` (by its id, None without
    one), then reads the body before anything else runs."""

    def __init__(self, app: ASGIApp, entry: Entry, key_ring: KeyRing) -> None:
        self._app, self._entry, self._key_ring = app, entry, key_ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            key = await self._admitted(scope)
            body = await read_body(Headers(scope=scope), receive)
        except FilbertError as exc:
            await refuse(exc, scope, receive, send)
            return
        if body is not None:
            await self._serve(key, scope, _replayed(body, receive), send)

    async def _admitted(self, scope: Scope) -> Key | None:
        """Raises Unauthorized, Forbidden, UnknownRoute, Busy."""
        state = scope.setdefault("state", {})
        state["key"] = None
        needed = scopes.needed(scope["method"], scope["path"])
        if needed is None:
            return None
        key = await self._key_ring.find(_texts(Headers(scope=scope)))
        may = self._may(key)
        if may is None:
            do = "Send it as `Authorization: Bearer fk-…` or `x-api-key`; `filbert keys add` makes one."
            raise Unauthorized("This server asks for a key.", do=do)
        if needed == "admin" and may != "admin":
            if not scopes.is_known(scope["method"], scope["path"]):
                raise UnknownRoute(
                    f"There is no {scope['method']} {scope['path'][:200]}.", do="/openapi.json lists all."
                )
            raise Forbidden("This needs an admin key.", do="`filbert keys add NAME --scope admin` makes one.")
        if key:
            state["key"] = key.id
            self._key_ring.admit(key)
        return key

    def _may(self, key: Key | None) -> KeyScope | None:
        return key.scope if key else self._entry.without_key

    async def _serve(self, key: Key | None, scope: Scope, receive: Receive, send: Send) -> None:
        MODELS_SHOWN.set(frozenset(key.models) if key and key.models else None)
        KEPT_FOR.set("" if self._may(key) == "admin" else key.id if key else ANYBODY)
        try:
            await self._app(scope, receive, send)
        finally:
            if key:
                self._key_ring.spend(key.id, measured_of(scope).tokens)


def _texts(headers: Headers) -> Iterator[str]:
    """What may be a key, wherever clients put it."""
    for value in headers.getlist("authorization"):
        kind, _, text = value.strip().partition(" ")
        if kind.lower() == "bearer":
            yield text.strip()
    for value in headers.getlist("x-api-key"):
        yield value.strip()


async def refuse(error: FilbertError, scope: Scope, receive: Receive, send: Send) -> None:
    if not isinstance(error, BodyTooLarge | TooSlow):
        await _pass_over(receive)
    answer = error_answer(error, scope)
    answer.headers["connection"] = "close"  # or the rest of the body would still be read
    if isinstance(error, Unauthorized):
        answer.headers["www-authenticate"] = "Bearer"
    await answer(scope, receive, send)


async def _pass_over(receive: Receive) -> None:
    """Take a body and keep nothing: who still sends when the connection closes would not see the answer."""
    n_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(PASSED_OVER_S):
            while n_bytes < MAX_BODY_BYTES and (message := await receive()).get("more_body"):
                n_bytes += len(message["body"])


async def read_body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None when the client left before its end. Raises BodyTooLarge, TooSlow."""
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_S):
            return await _read(receive)
    except TimeoutError as exc:
        raise TooSlow(f"A request has {BODY_S:.0f} s to arrive.", do="Send less at once.") from exc


async def _read(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"A request may have {MAX_BODY_BYTES >> 20} MiB.", do="Send less at once.")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read once more, then what really comes: the client's leaving."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
