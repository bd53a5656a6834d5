"""Connections of bounded number and patience: uvicorn's own waits for ever for a head that does not come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle

CROWDED = "crowded"  # in the state of a request: it came by a connection too many
MOST_CONNECTIONS = 512
MOST_TURNED_AWAY = 128  # connections beyond that which are told so; further ones are closed unheard


class BoundedConnection(HttpToolsProtocol):
    """Silent and half-open connections are closed, as are those that send a head byte by byte."""

    head_s = 15.0  # so long a connection may be without a whole head of a request
    _deadline: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS + MOST_TURNED_AWAY:
            transport.abort()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._deadline and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][CROWDED] = len(self.connections) > MOST_CONNECTIONS

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
