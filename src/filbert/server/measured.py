"""What an answer took, as its worker counted it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

USAGE = b'"usage":{'  # inside a string its quotes would be escaped
PROMPT = re.compile(rb'"prompt_progress":\{"total":(\d+)')
EVENT = b"data: {"


@dataclass(slots=True)
class Measured:
    """Of one request, filled in as it goes. Tokens of the prompt, those of them that were remembered, and those
    written; milliseconds that the engine computed; first_s: seconds to the first token of a stream; since: when it
    came, by the clock of `time.monotonic`."""

    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prompt_ms: float = 0
    generation_ms: float = 0
    first_s: float | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, event: Mapping[str, Any]) -> None:
        """event: the worker's last of an answer. Several answers to one prompt have that in common."""
        timings, usage = event.get("timings") or {}, event["usage"]
        self.prompt_tokens = usage["prompt_tokens"]
        self.cached_tokens = max(self.cached_tokens, timings.get("cache_n", 0))
        self.completion_tokens += usage["completion_tokens"]
        self.prompt_ms = max(self.prompt_ms, timings.get("prompt_ms", 0.0))
        self.generation_ms += timings.get("predicted_ms", 0.0)


def measured_of(scope: Scope) -> Measured:
    """The record of a request, made when it is first asked for."""
    state: dict[str, Any] = scope.setdefault("state", {})
    found: Measured = state.setdefault("measured", Measured())
    return found


async def tapped(pieces: AsyncIterator[bytes], measured: Measured) -> AsyncIterator[bytes]:
    """The pieces as they come; what they say of usage is kept. Only events that do are parsed: of a client that leaves
    before them it is known how long its prompt was, and each event counts for a token."""
    rest, counted = b"", 0
    async for piece in pieces:
        whole, _, rest = (rest + piece).rpartition(b"\n\n")
        if USAGE in whole:
            for event in whole.split(b"\n\n"):
                if USAGE in event:
                    measured.completion_tokens -= counted
                    counted = 0
                    measured.add(json.loads(event.removeprefix(b"data: ")))
        elif progress := PROMPT.search(whole):
            measured.prompt_tokens = int(progress[1])
        else:
            events = whole.count(EVENT)
            counted += events
            measured.completion_tokens += events
        yield piece
