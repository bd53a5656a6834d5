"""The servers that a request has passed, told in its `Via` header: one that comes back ends there."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

from starlette.datastructures import Headers

from filbert.core.errors import UpstreamLoop

NAME = f"filbert-{secrets.token_hex(8)}"  # of this server; it tells nothing
HOP = re.compile(r"\bfilbert-[0-9a-f]{16}\b", re.ASCII)
MOST_HOPS = 8
HOPS: ContextVar[tuple[str, ...]] = ContextVar("hops", default=())  # of the request under way


def check_hops(headers: Headers) -> None:
    """Raises UpstreamLoop for a request that was here before."""
    hops = tuple(hop for line in headers.getlist("via") for hop in HOP.findall(line))
    if NAME in hops or len(hops) >= MOST_HOPS:
        raise UpstreamLoop("The request came back to a server that it had passed.", do="Take one of them out.")
    HOPS.set(hops)


def via() -> str:
    """What a request to the next server says."""
    return ", ".join(f"1.1 {hop}" for hop in (*HOPS.get(), NAME))
