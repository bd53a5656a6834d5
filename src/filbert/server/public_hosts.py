"""Connections to hosts of the public internet only, for addresses that come from strangers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from httpcore import SOCKET_OPTION as SocketOption
from httpcore import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream, ConnectError, ConnectTimeout

from filbert.core.addresses import is_elsewhere

CONNECT_S = 5.0
MOST_TRIED = 4  # addresses of one host
LOOKUPS = 16  # at once; each may hold its thread for as long as a name server likes

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotPublic(Exception):
    """A host that this machine, its network or nobody but a provider's machines reach."""


class Lookups:
    """Names to addresses, in threads of their own: slow name servers keep nobody else waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, "filbert-lookup")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Addresses in figures, the likeliest to be reached first. Raises OSError, UnicodeError."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _look_up(host: str, port: int) -> list[str]:
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class PublicHosts(AsyncNetworkBackend):
    """What httpcore connects by. A name is looked up once, and what was checked is what is connected to: one that means
    another host a moment later (DNS rebinding) gains nothing."""

    def __init__(self, resolve: Resolve, may_ask: Callable[[str], bool] = is_elsewhere) -> None:
        self._resolve, self._may_ask, self._plain = resolve, may_ask, AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> AsyncNetworkStream:
        """Raises NotPublic where any address of the host is not, ConnectError, OSError."""
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(self._may_ask, addresses)):
            raise NotPublic("the host is not a public one")
        for address in addresses[:MOST_TRIED]:
            try:
                return await self._plain.connect_tcp(address, port, CONNECT_S, local_address, socket_options)
            except (ConnectError, ConnectTimeout) as exc:
                failed = exc
        raise failed
