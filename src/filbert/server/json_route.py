"""What the routes of all protocols have in common: bodies are JSON, and the models are the application's."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Loan
from filbert.server.lent import Lent
from filbert.server.offered import Offered
from filbert.server.patience import patient
from filbert.server.response import queue_of


class JsonRequest(Request):
    """JSON as its standard has it: no NaN, nothing nested deeper than 200, text that is UTF-8."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as exc:
            raise json.JSONDecodeError(str(exc), "", 0) from exc


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def as_json(request: Request) -> Response:
            # Whatever type it says it is, as curl's -d says "form": pages of other sites were stopped at the door.
            headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
            return await handle(JsonRequest({**request.scope, "headers": headers}, request.receive))

        return as_json


def offered_by(request: Request) -> Offered:
    offered: Offered = request.app.state.offered
    return offered


async def lent(request: Request, name: str, load: LoadOptions | None = None, keep_s: float | None = None) -> Loan[Lent]:
    """The model that a request asks for. Raises what `Offered.lend` and `patient` raise, and UpstreamDown."""
    offered = offered_by(request)
    if loan := offered.lend_at_once(name, load, keep_s):
        return loan
    return await patient(request, offered.lend(name, load, keep_s, queue_of(request.scope)))
