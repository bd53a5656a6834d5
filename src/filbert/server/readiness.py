"""Whether the server takes requests: what it was told to load is loaded first, and before it ends it drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from filbert.core.errors import NotReady
from filbert.engine.pool import stopping

STILL_ASKED = frozenset({"/health", "/ready", "/metrics"})  # by those who watch a server end


class Readiness:
    """Of one server. loading: it has not loaded yet what it was told to; it takes requests all the same."""

    def __init__(self, loading: bool = False) -> None:
        self.loading, self.ending = loading, False
        self._ends_at: float | None = None
        self._limits: set[asyncio.Timeout] = set()

    def check(self) -> None:
        """Raises NotReady."""
        if self.ending:
            raise stopping()
        if self.loading:
            raise NotReady("The server loads its models.", do="Ask again in a moment.")

    def check_open(self, path: str) -> None:
        """Raises NotReady for a request that comes too late."""
        if self.ending and path not in STILL_ASKED:
            raise stopping()

    def end(self, within_s: float) -> None:
        """Take no more requests; answers under way have so long."""
        self.ending = True
        self._ends_at = asyncio.get_running_loop().time() + within_s
        for limit in self._limits:
            limit.reschedule(min(limit.when() or self._ends_at, self._ends_at))

    @asynccontextmanager
    async def limited(self, deadline_s: float) -> AsyncIterator[None]:
        """A block with a deadline, which comes sooner where the server ends. Raises TimeoutError."""
        async with asyncio.timeout(deadline_s) as limit:
            if self._ends_at is not None:
                limit.reschedule(self._ends_at)
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)
