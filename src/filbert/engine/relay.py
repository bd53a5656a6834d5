"""Bytes of a worker's answer as they come, for a gateway that hands them on untouched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

from filbert.core.errors import EngineCrashed, EngineStalled
from filbert.engine.transport import CONNECT_S, WorkerSocket

READ_BYTES = 1 << 16


@dataclass
class RelayedAnswer:
    """Status, headers and body of an answer under way; httptools calls the on_… methods."""

    reader: asyncio.StreamReader
    stall_s: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    _ready: list[bytes] = field(default_factory=list)
    _complete: bool = False

    def __post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._ready.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    async def until_headers(self) -> None:
        while not self.status:
            await self._read()

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces as the worker wrote them. Raises EngineCrashed, EngineStalled."""
        while True:
            if self._ready:
                piece = b"".join(self._ready)
                self._ready.clear()
                yield piece
            elif self._complete:
                return
            else:
                await self._read()

    async def _read(self) -> None:
        try:
            data = await asyncio.wait_for(self.reader.read(READ_BYTES), self.stall_s)
        except TimeoutError as exc:
            raise EngineStalled(f"The engine gave no sign of life for {self.stall_s:.0f} s.", do="Try again.") from exc
        except OSError as exc:
            raise EngineCrashed("The engine ended before its answer did.", why=f"{exc}.", do="Try again.") from exc
        if not data:
            raise EngineCrashed("The engine ended before its answer did.", do="Try again.")
        self._parser.feed_data(data)


@asynccontextmanager
async def relay(worker: WorkerSocket, route: str, body: bytes) -> AsyncIterator[RelayedAnswer]:
    """Send `body` to a worker's route. Leaving the block closes the connection, which frees the engine's slot."""
    try:
        reader, writer = await asyncio.wait_for(_connect(worker.address), CONNECT_S)
    except (OSError, TimeoutError) as exc:
        raise EngineCrashed("The worker does not answer.", why=f"{exc}.", do="Try again.") from exc
    try:
        writer.write(_head(route, worker.headers, len(body)) + body)
        await writer.drain()
        answer = RelayedAnswer(reader, worker.stall_s)
        await answer.until_headers()
        yield answer
    finally:
        writer.close()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix://"):
        return await asyncio.open_unix_connection(address.removeprefix("unix://"))
    parts = urlsplit(address)
    return await asyncio.open_connection(parts.hostname, parts.port)


def _head(route: str, headers: Mapping[str, Any], length: int) -> bytes:
    lines = [f"POST {route} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
