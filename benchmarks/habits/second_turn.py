"""The second turn of a long chat finds its prompt remembered: its time to the first token against the first turn's.

    python benchmarks/habits/second_turn.py [ROUNDS]

Each round is a chat of its own, about a fresh text of 1,500 tokens. Target: 0.06.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

import filbert
from filbert.chat.session import Turn
from filbert.report.table import table

TOKENS = 1500
CONTEXT = 4096


def main(rounds: int = 5) -> None:
    firsts, seconds = [], []
    with filbert.load("smollm2:135m", context=CONTEXT) as model:
        for _ in range(rounds):
            chat = model.chat(max_tokens=16)
            firsts.append(first_token_s(chat.send(f"{text_of(model)}\n\nWhat are these numbers?")))
            seconds.append(first_token_s(chat.send("And which of them comes most often?")))
    ratio = statistics.median(second / first for first, second in zip(firsts, seconds, strict=True))
    rows = [
        ("first turn", f"{statistics.median(firsts) * 1e3:.0f}", ""),
        ("second turn", f"{statistics.median(seconds) * 1e3:.0f}", f"{ratio:.3f}"),
    ]
    print(f"Time to the first token, a chat of {TOKENS} tokens (target 0.06)")
    print(table(("", "ms", "÷ first"), rows))


def text_of(model: filbert.Model) -> str:
    text = ""
    while len(model.tokenize(text)) < TOKENS:
        text += " ".join(str(random.randrange(1000)) for _ in range(100)) + "\n"
    return text


def first_token_s(turn: Turn) -> float:
    """Reads the whole answer, so that the next turn has it to remember."""
    began, first = time.perf_counter(), 0.0
    for chunk in turn:
        first = first or (time.perf_counter() - began if chunk.text else 0.0)
    return first


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
