"""A conversation without its oldest turns, where the context would not hold it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from filbert.core.errors import ContextOverflow
from filbert.core.messages import Message, flatten, turns
from filbert.engine.sampling import Sampling
from filbert.engine.tools import ToolUse
from filbert.server.lent import Lent

ANSWER_TOKENS = 1024  # where nobody says how long an answer may be


def truncated(model: Lent, messages: Sequence[Message], sampling: Sampling, use: ToolUse) -> list[Message]:
    """System messages and the last turn always stay, and up to a quarter of the context is left for the answer."""
    room = model.context - min(sampling.max_tokens or ANSWER_TOKENS, model.context // 4)
    head, rest = turns(messages)

    def fits(dropped: int) -> bool:
        """Counted only where the bound is not enough; a conversation too long to be counted does not fit."""
        kept = flatten(head, rest[dropped:])
        try:
            return model.prompt_bound(kept, use) <= room or model.count_tokens(kept, use, sampling) <= room
        except ContextOverflow:
            return False

    if fits(0):
        return list(messages)
    return flatten(head, rest[bisect_left(range(len(rest) - 1), True, key=fits) :])
