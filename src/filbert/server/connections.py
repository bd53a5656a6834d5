"""Connections of bounded number and patience: uvicorn's own waits for ever for a head that does not come, and for a
reader that takes nothing."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle

CROWDED = "crowded"  # in the state of a request: it came by a connection too many
MOST_CONNECTIONS = 512
MOST_TURNED_AWAY = 128  # connections beyond that which are told so; further ones are closed unheard
UNREAD_BYTES = 128 << 10  # that the kernel holds of an answer; left alone it takes megabytes for each reader


class BoundedConnection(HttpToolsProtocol):
    """Silent and half-open connections are closed, as are those that send a head byte by byte, or take nothing of what
    they asked for."""

    head_s = 15.0  # so long a connection may be without a whole head of a request
    kept_s = 75  # so long it may be idle; longer than clients keep theirs, or some would ask just as it is closed
    unread_s = 60.0  # so long it may take nothing although something waits for it
    _deadline: TimerHandle | None = None
    _reading: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = self.kept_s
        with suppress(OSError):  # it is gone already
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
        if self.scheme == "http":  # uvloop's encrypted connections break with no buffer at all
            transport.set_write_buffer_limits(0)  # writing pauses as soon as the kernel takes no more
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
        self._stop_expecting_a_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        self._stop_expecting_a_reader()
        super().resume_writing()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reader(self) -> None:
        """A reader that is slow takes something now and then; one that takes nothing holds memory, and a place."""
        self._stop_expecting_a_reader()
        self._reading = self.loop.call_later(
            self.unread_s, self._look_at_reader, self.transport.get_write_buffer_size()
        )

    def _look_at_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._expect_reader()
        else:
            self.transport.abort()

    def _stop_expecting_a_reader(self) -> None:
        if self._reading:
            self._reading.cancel()
            self._reading = None
