"""Models that think before they answer: which do, how they are told to, and what the engine is asked for.

What a model knows is read from its chat template, as the engine reads it. The engine parses the thought out of the
answer, and closes it in the prompt where it is not wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filbert.core.errors import BadInput
from filbert.engine.sampling import Sampling, Think

MARKS = ("<think>", "</think>", "<seed:think>", "<mm:think>", "[THINK]", "<|START_THINKING|>", "<|channel>thought")
NAMES = ("enable_thinking", "reasoning_content", "reasoning_effort")
CHANNEL = "<|channel|>analysis"
BUDGETS: Mapping[Think, int] = {"low": 512, "medium": 2048}  # tokens, where a template knows no levels


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model thinks. levels: its template is told how hard; always: it cannot be told to leave the thought out,
    so that it is told to think little and the thought is ended as it begins."""

    levels: bool
    always: bool

    def __str__(self) -> str:
        if self.always:
            return "always (--think low, medium or high says how hard)"
        how = "says how hard" if self.levels else "says for how many tokens"
        return f"yes (--think on or off; low, medium or high {how})"


def thinking_of(template: str) -> Thinking | None:
    """None for a template that knows no thought."""
    if not any(sign in template for sign in (*MARKS, *NAMES, CHANNEL)):
        return None
    return Thinking(levels="reasoning_effort" in template, always=CHANNEL in template)


def think_fields(name: str, thinking: Thinking | None, sampling: Sampling) -> dict[str, Any]:
    """The fields of a worker's chat request. Raises BadInput for a wish to think that the model cannot follow.
    name: the model's, for the sentence."""
    think = sampling.think
    if thinking is None:
        if think in (None, "off"):
            return {}
        raise BadInput(
            f"{name} cannot think before it answers.",
            why="Its chat template knows no thought.",
            do="Leave think out, or take a model that thinks: `filbert search thinking`.",
        )
    if think is None and sampling.grammar is not None:
        if thinking.always:
            raise BadInput(
                f"{name} cannot hold to a grammar.",
                why="It writes marks around its thought and its answer, which the grammar would forbid.",
                do="Use a JSON schema.",
            )
        think = "off"  # a grammar holds from the first token on, so that a thought would have to keep to it
    counted = {"timings_per_token": True}
    return counted | (_wish(thinking, think) if think else {})


def _wish(thinking: Thinking, think: Think) -> dict[str, Any]:
    on = think != "off"
    fields: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": on, "thinking": on}}
    if not on:
        return fields | {"reasoning_budget_tokens": 0, "reasoning_effort": "low" if thinking.always else "none"}
    if think == "on":
        return fields
    if thinking.levels:
        return fields | {"reasoning_effort": think}
    return fields | ({"reasoning_budget_tokens": BUDGETS[think]} if think in BUDGETS else {})
