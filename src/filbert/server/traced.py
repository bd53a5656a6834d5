"""Each request has an id, is counted, and leaves a line in the log. What was said is in none of it."""

from __future__ import annotations

import json
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from filbert.core.log import log
from filbert.server.measured import measured_of
from filbert.server.metrics import OTHER, Metrics

CLIENTS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Traced:
    """ASGI middleware, around all others."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since, status, given = time.monotonic(), 499, Headers(scope=scope).get("x-request-id", "")  # 499: it left first
        request_id = given if CLIENTS_ID.fullmatch(given) else secrets.token_hex(8)
        counted = False

        def count() -> None:
            nonlocal counted
            if not counted:
                counted = True
                self._count(scope, request_id, status, time.monotonic() - since)

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            elif not message.get("more_body"):
                count()  # whoever has read the end finds it counted
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            count()

    def _count(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route, measured = getattr(scope.get("route"), "path", OTHER), measured_of(scope)
        self._metrics.count(route, status, seconds, measured)
        line = {
            "request": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 3),
            "model": measured.model,
            "key": scope["state"].get("key") or "",
            "prompt_tokens": measured.prompt_tokens,
            "cached_tokens": measured.cached_tokens,
            "completion_tokens": measured.completion_tokens,
            "first_s": measured.first_s and round(measured.first_s, 3),
        }
        log.info("%s", json.dumps(line))
