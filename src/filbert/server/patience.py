"""How long a request is waited for: until its deadline, and no longer than its client stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.types import Receive, Scope

from filbert.core.errors import Cancelled, DeadlinePassed
from filbert.engine.pool import stopping
from filbert.server.measured import measured_of
from filbert.server.readiness import Readiness
from filbert.server.serve_options import ServeOptions

T = TypeVar("T")


async def patient(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What work comes to. Raises Cancelled, DeadlinePassed, NotReady where the server ends first."""
    async with in_time(request.scope):
        return await unless_left(request.receive, work)


@asynccontextmanager
async def in_time(scope: Scope) -> AsyncIterator[None]:
    """What is left of a request's time. Raises DeadlinePassed, NotReady where the server ends first."""
    options: ServeOptions = scope["app"].state.options
    readiness: Readiness = scope["app"].state.readiness
    try:
        async with readiness.limited(measured_of(scope).since + options.deadline - time.monotonic()):
            yield
    except TimeoutError as exc:
        if readiness.ending:
            raise stopping() from exc
        raise DeadlinePassed(
            f"The answer took longer than {options.deadline:g} s.", do="Ask for fewer max_tokens, or when less waits."
        ) from exc


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What work comes to, which is cancelled when the client leaves. Raises Cancelled."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_client_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})
    if working.cancelled():
        raise Cancelled("The client left.")
    return working.result()


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
