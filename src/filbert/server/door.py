"""What is let in: requests of bounded size that name this machine, and no page of another site."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from filbert.core.errors import BodyTooLarge, FilbertError, Forbidden
from filbert.server.error_bodies import error_answer

MAX_BODY_BYTES = 16 << 20
THIS_MACHINE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.ASCII | re.IGNORECASE)


class Door:
    """ASGI middleware. It reads the body, at most MAX_BODY_BYTES of it, before anything else runs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_origin(Headers(scope=scope))
            body = await read_body(Headers(scope=scope), receive)
        except FilbertError as exc:
            answer = error_answer(exc, scope)
            answer.headers["connection"] = "close"  # or the rest of the body would still be read
            await answer(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replayed(body, receive), send)


def check_origin(headers: Headers) -> None:
    """A page that rebinds its name to 127.0.0.1 still sends that name (Ollama, CVE-2024-28224), and a page that posts
    to another site is told of by its browser. Raises Forbidden."""
    host = headers.get("host", "")
    if not THIS_MACHINE.fullmatch(host):
        raise Forbidden(f"This server does not answer to the name {host[:100]!r}.", do="Use 127.0.0.1 or localhost.")
    own_page = headers.get("origin", f"http://{host}") == f"http://{host}"
    if not own_page or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("Web pages of other sites may not use this server.", do="Ask it from a local program.")


async def read_body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None when the client left before its end. Raises BodyTooLarge."""
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
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
