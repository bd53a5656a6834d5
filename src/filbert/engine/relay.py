"""Bytes of a worker's answer as they come, for a gateway that hands them on untouched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httptools

from filbert.engine.transport import CONNECT_S, LET_GO_S, WorkerSocket, cut_short, stalled, unreachable

READ_BYTES = 1 << 16


class RelayedAnswer:
    """Status and body of an answer under way; httptools calls the on_… methods."""

    def __init__(self, reader: asyncio.StreamReader, stall_s: float) -> None:
        self.status = 0
        self.under_way = True
        self._reader, self._stall_s = reader, stall_s
        self._ready: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._ready.append(body)

    def on_message_complete(self) -> None:
        self.under_way = False

    async def until_headers(self) -> None:
        while not self.status:
            await self._read()

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces as the worker wrote them; nothing is read ahead of who takes them. Raises EngineCrashed,
        EngineStalled."""
        while self._ready or self.under_way:
            if not self._ready:
                await self._read()
            piece = b"".join(self._ready)
            self._ready.clear()
            if piece:
                yield piece

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError as exc:
            self.under_way = False
            raise stalled(self._stall_s) from exc
        except OSError:  # its end was reset rather than closed
            data = b""
        if not data:
            self.under_way = False
            raise cut_short()
        self._parser.feed_data(data)


@asynccontextmanager
async def relay(worker: WorkerSocket, route: str, body: bytes, more_s: float = 0) -> AsyncIterator[RelayedAnswer]:
    """Send `body` to a worker's route. more_s: how much longer than usual it may be silent. Leaving the block early
    ends the answer, and waits until the worker let go of it, so that its share of the context is free again."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await _connect(worker.address)
    except (OSError, TimeoutError) as exc:
        raise unreachable(exc) from exc
    answer = RelayedAnswer(reader, worker.stall_s + more_s)
    try:
        writer.write(_head(route, worker.headers, len(body)) + body)
        await answer.until_headers()
        yield answer
    finally:
        if answer.under_way:
            await _let_go(reader, writer)
        writer.close()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix://"):
        return await asyncio.open_unix_connection(address.removeprefix("unix://"))
    parts = urlsplit(address)
    return await asyncio.open_connection(parts.hostname, parts.port)


def _head(route: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"POST {route} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _let_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that nothing more is wanted, and read to the end: the worker closes once it has cancelled."""
    with suppress(OSError, TimeoutError):
        writer.write_eof()
        async with asyncio.timeout(LET_GO_S):
            while await reader.read(READ_BYTES):
                pass
