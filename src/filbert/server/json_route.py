"""What the routes of all protocols have in common: bodies are JSON, and the models are the application's."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from filbert.server.offered import Offered


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
