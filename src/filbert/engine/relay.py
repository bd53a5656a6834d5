"""Bytes of a worker's answer as they come, for a gateway that hands them on untouched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httptools

from filbert.core.errors import FilbertError
from filbert.engine.transport import CONNECT_S, LET_GO_S, WorkerSocket, cut_short, stalled, unreachable

READ_AHEAD_BYTES = 1 << 16  # of a worker whose client is slow; then the worker waits, too


class RelayedAnswer(asyncio.Protocol):
    """Status and body of an answer under way. httptools calls the on_… methods, the event loop those of a protocol."""

    def __init__(self, stall_s: float) -> None:
        self.status = 0
        self.under_way = True
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._ready: list[bytes] = []
        self._ahead = 0
        self._paused = self._unwanted = self._stalled = False
        self._ended = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._heard = self._loop.time()
        self._watch = self._loop.call_later(stall_s, self._look)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._unwanted:
            return
        self._heard = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()
        if self._ahead > READ_AHEAD_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        self._ended.set()
        self._wake()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._ready.append(body)
        self._ahead += len(body)

    def on_message_complete(self) -> None:
        self.under_way = False

    async def until_headers(self) -> None:
        while not self.status:
            await self._more()

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces as the worker wrote them. Raises EngineCrashed, EngineStalled."""
        while self._ready or self.under_way:
            if self._ready:
                piece = b"".join(self._ready)
                self._ready.clear()
                self._ahead = 0
                self._go_on()
                yield piece
            else:
                await self._more()

    async def let_go(self) -> None:
        """Say that nothing more is wanted, and hear the worker to the end: it closes once it has cancelled."""
        self._unwanted = True
        with suppress(OSError, TimeoutError):
            self.transport.write_eof()
            self._go_on()
            async with asyncio.timeout(LET_GO_S):
                await self._ended.wait()

    async def _more(self) -> None:
        if not (self._ended.is_set() or self._stalled):
            self._waiter = self._loop.create_future()
            await self._waiter
        if self._stalled:
            raise self._over(stalled(self._stall_s))
        if self._ended.is_set() and self.under_way and not self._ready:
            raise self._over(cut_short())

    def _over(self, error: FilbertError) -> FilbertError:
        self.under_way = False
        return error

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._heard = self._loop.time()
            self.transport.resume_reading()

    def _look(self) -> None:
        """One timer looks now and then when something was heard: one for each piece would cost more than the piece."""
        silent_s = 0 if self._paused else self._loop.time() - self._heard
        if silent_s < self._stall_s:
            self._watch = self._loop.call_later(self._stall_s - silent_s, self._look)
        else:
            self._stalled = True
            self._wake()


@asynccontextmanager
async def relay(worker: WorkerSocket, route: str, body: bytes, more_s: float = 0) -> AsyncIterator[RelayedAnswer]:
    """Send `body` to a worker's route. more_s: how much longer than usual it may be silent. Leaving the block early
    ends the answer, and waits until the worker let go of it, so that its share of the context is free again."""
    try:
        async with asyncio.timeout(CONNECT_S):
            answer = await _connected(worker.address, worker.stall_s + more_s)
    except (OSError, TimeoutError) as exc:
        raise unreachable(exc) from exc
    try:
        answer.transport.write(_head(route, worker.headers, len(body)) + body)
        await answer.until_headers()
        yield answer
    finally:
        if answer.under_way:
            await answer.let_go()
        answer.transport.abort()


async def _connected(address: str, stall_s: float) -> RelayedAnswer:
    loop = asyncio.get_running_loop()
    if address.startswith("unix://"):
        _, answer = await loop.create_unix_connection(lambda: RelayedAnswer(stall_s), address.removeprefix("unix://"))
        return answer
    host, port = urlsplit(address).netloc.split(":")
    _, answer = await loop.create_connection(lambda: RelayedAnswer(stall_s), host, int(port))
    return answer


def _head(route: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"POST {route} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
