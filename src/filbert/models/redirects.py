"""Where a server may send us on to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from filbert.core.addresses import is_elsewhere
from filbert.core.errors import DownloadFailed

Trace = Callable[[str, Mapping[str, Any]], None]
ONLY_PUBLIC: ContextVar[bool] = ContextVar("filbert_only_public", default=False)  # who names a host sits elsewhere


class Redirects:
    """Of one client: never off https, nor from the public internet to this machine or into its network. A host that a
    person names may be in there, and then send us on to others; not where ONLY_PUBLIC was set when this was made."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._first = address.hostname or ""
        self._only_public = ONLY_PUBLIC.get()
        self._schemes = ("https",) if address.scheme == "https" else ("https", "http")
        self._proxies = {urlsplit(proxy).hostname for proxy in getproxies().values()}

    def look_at(self, request: httpx.Request) -> None:
        """Before each request, as httpx's event hook. Raises DownloadFailed."""
        if request.url.scheme not in self._schemes:
            raise DownloadFailed(
                f"{self._first} sent the download on to {request.url.scheme}://{request.url.host}.",
                why="That way is not encrypted.",
                do="Use another source.",
            )
        is_trusted = request.url.host == self._first and not self._only_public
        if not is_trusted and self._begins_outside and not _is_public(request.url.host):
            raise self._inwards()
        request.extensions["trace"] = self.trace()

    def trace(self) -> Trace:
        """For one request's `trace`, which httpcore tells of each connection before anything is sent over it: what the
        name meant when it was looked up may not be what it means now (DNS rebinding)."""
        host = ""

        def look_at(event: str, told: Mapping[str, Any]) -> None:
            nonlocal host
            if event == "connection.connect_tcp.started":
                host = told["host"]
            elif event == "connection.connect_tcp.complete" and host not in self._proxies and self._begins_outside:
                stream = told["return_value"]
                if not is_elsewhere(str(stream.get_extra_info("server_addr")[0])):
                    stream.close()
                    raise self._inwards()

        return look_at

    @cached_property
    def _begins_outside(self) -> bool:
        return self._only_public or _is_public(self._first)

    def _inwards(self) -> DownloadFailed:
        return DownloadFailed(
            f"{self._first} leads to an address that is not of the public internet.", do="Use another source."
        )


def _is_public(host: str) -> bool:
    """Whether a host is neither this machine nor of its network, as those may be that a person names. A name that
    nobody here knows may be known to a proxy."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True
    return all(is_elsewhere(str(each[4][0])) for each in found)
