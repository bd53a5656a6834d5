"""What an answer took, as its worker counted it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

TIMINGS = b'"timings":{'  # inside a string its quotes would be escaped
TAIL_BYTES = 16_384  # an answer's last events
EVENT = b"data: {"


@dataclass(slots=True)
class Measured:
    """Of one request, filled in as it goes. Tokens of the prompt, those of them that were remembered, and those
    written; milliseconds that the engine computed; first_s: seconds to the first byte of an answer."""

    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prompt_ms: float = 0
    generation_ms: float = 0
    first_s: float | None = None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def read(self, event: Mapping[str, Any]) -> None:
        """event: the worker's last."""
        timings, usage = event.get("timings") or {}, event.get("usage") or {}
        self.prompt_tokens = usage.get("prompt_tokens", 0)
        self.cached_tokens = timings.get("cache_n", 0)
        self.completion_tokens = usage.get("completion_tokens", 0)
        self.prompt_ms, self.generation_ms = timings.get("prompt_ms", 0.0), timings.get("predicted_ms", 0.0)


def measured_of(scope: Scope) -> Measured:
    """The record of a request, made when it is first asked for."""
    state: dict[str, Any] = scope.setdefault("state", {})
    found: Measured = state.setdefault("measured", Measured())
    return found


async def tapped(pieces: AsyncIterator[bytes], measured: Measured) -> AsyncIterator[bytes]:
    """The pieces as they come; what they say at their end is kept. Nothing is parsed before."""
    tail = b""
    async for piece in pieces:
        tail = (tail + piece)[-TAIL_BYTES:]
        yield piece
    if (at := tail.rfind(TIMINGS)) >= 0 and (begin := tail.rfind(EVENT, 0, at)) >= 0:
        measured.read(json.loads(tail[begin + 6 : tail.index(b"\n\n", at)]))
