"""A server's start: it answers at once, and meanwhile loads what it was told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from filbert.models.store import StoredModel
from filbert.server.offered import Offered
from filbert.server.readiness import Readiness


class Start:
    """error: why a model could not be loaded; the server is stopped then."""

    def __init__(
        self,
        offered: Offered,
        models: Sequence[StoredModel],
        readiness: Readiness,
        tell: Callable[[str], None],
        stop: Callable[[], None],
    ) -> None:
        """tell: a person, what was loaded and where the server is."""
        self.error: Exception | None = None
        self._offered, self._models, self._readiness = offered, models, readiness
        self._tell, self._stop = tell, stop

    @asynccontextmanager
    async def then(self, ready: AbstractAsyncContextManager[None], address: str) -> AsyncIterator[None]:
        """While the block runs, load the models, enter `ready`, and tell the address."""
        task = asyncio.create_task(self._go_on(ready, address))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _go_on(self, ready: AbstractAsyncContextManager[None], address: str) -> None:
        try:
            for stored in self._models:
                self._tell((await asyncio.to_thread(self._offered.add, stored)).summary)
            self._readiness.loading = False
            async with ready:
                self._tell(address)
                await asyncio.Event().wait()  # until the block ends
        except Exception as exc:  # noqa: BLE001 - carried to whoever started the server
            self.error = exc
            self._stop()
