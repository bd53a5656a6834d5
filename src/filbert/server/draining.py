"""A server that is told to end: who is being answered is answered, who comes then is told so (503)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn

from filbert.server.readiness import Readiness

POLL_S = 0.05
GRACE_S = 1  # for connections to close, and for requests that know no deadline


class DrainingServer(uvicorn.Server):
    """uvicorn's own would not be reached any more from the signal on. Ctrl-C twice ends it at once."""

    def __init__(self, config: uvicorn.Config, readiness: Readiness, drain_s: float, busy: Callable[[], bool]) -> None:
        """busy: whether somebody is answered past this server, by a lease."""
        config.timeout_graceful_shutdown = GRACE_S
        super().__init__(config)
        self._readiness, self._drain_s, self._busy = readiness, drain_s, busy

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._readiness.end(self._drain_s)
        try:
            async with asyncio.timeout(self._drain_s + GRACE_S):  # past the deadline answers say that they are cut
                while (self.server_state.tasks or self._busy()) and not self.force_exit:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pass
        await super().shutdown(sockets)
