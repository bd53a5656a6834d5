"""The calibration's child: times the engine's kernels with models that hold nothing.

Told {"folder": …, "threads": …}; says {"done": …, "of": …} now and then, and at last {"answer": …} or {"error": …}.

All models stay loaded and take turns, so that whoever comes again finds its weights driven out of the processor's
cache by the others: its first token is timed from memory, those that follow from the cache. Of every time the best of
all rounds counts: other programs only ever make it longer.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from filbert.core.errors import FilbertError
from filbert.engine.calibration_model import Shape, write
from filbert.engine.capi import Context, Engine, Rows, Weights, open_engine
from filbert.engine.lifeline import heard, open_lifeline
from filbert.engine.scorer_main import told

KINDS = (
    *("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"),
)
CACHES = ("f16", "q8_0")
BLOCKS, WIDTH, FEED = 2, 1024, 2048
PROMPT = 64
ROUNDS, LEAST_ROUNDS = 12, 4
MOST_S = 10.0
SIZES = (1, 2, 3, 4, 6, 8, 11, 14)  # models read in turn, to find how much the cache holds
LONG = 1024
DEEP, FLAT = Shape(64, 64, 26), Shape(64, 64, 2)
WIDE = Shape(512, 1024, 8)
Say = Callable[[dict[str, Any]], None]


class Timed:
    """A loaded model, and the best of each time it took."""

    def __init__(self, engine: Engine, path: Path, threads: int, *, n_ctx: int = 512, kv: str = "f16") -> None:
        self.context = Context(Weights(engine, str(path)), n_ctx, threads, kv=kv)
        self.best: defaultdict[str, float] = defaultdict(lambda: float("inf"))

    def time(self, what: str, tokens: int, start: int = 0) -> None:
        """Keep the seconds that `tokens` take after `start` under `what`, when it is the best so far."""
        rows = Rows(
            np.zeros(tokens, np.int32),
            np.arange(start, start + tokens, dtype=np.int32),
            np.zeros(tokens, np.int32),
            np.arange(tokens) == tokens - 1,
        )
        began = time.perf_counter()
        for _ in self.context.decode(rows):
            pass
        self.best[what] = min(self.best[what], time.perf_counter() - began)

    def visit(self) -> None:
        self.context.clear()
        self.time("memory", 1)
        for position in range(1, 6):
            self.time("cached", 1, position)

    def afresh(self, what: str) -> None:
        self.context.clear()
        self.time(what, 1)

    def read_prompt(self) -> None:
        self.context.clear()
        self.time("prompt", PROMPT)


def measured(folder: Path, threads: int, say: Say) -> dict[str, Any]:
    engine = open_engine()
    steps = Steps(say, len(KINDS) + 2 * ROUNDS + 3 + len(CACHES))

    def made(shape: Shape, **how: Any) -> Timed:
        path = write(folder / f"{shape.kind}-{shape.width}-{shape.blocks}.gguf", shape)
        return Timed(engine, path, threads, **how)

    kinds = {}
    for kind in KINDS:
        kinds[kind] = made(Shape(WIDTH, FEED, BLOCKS, kind))
        steps.step()
    flat, deep, wide = (made(shape) for shape in (FLAT, DEEP, WIDE))
    began = time.monotonic()
    for round_ in range(ROUNDS):
        if round_ >= LEAST_ROUNDS and time.monotonic() - began > MOST_S:
            break  # other programs make it take longer, and more of it no better
        for model in (*kinds.values(), flat, deep):
            model.visit()
        steps.step()
        for model in (*kinds.values(), flat, deep, wide):
            model.read_prompt()
        steps.step()
    tensor = max(0.0, (deep.best["cached"] - flat.best["cached"]) / (DEEP.tensors - FLAT.tensors))
    rates = {kind: rate(model, Shape(WIDTH, FEED, BLOCKS, kind), flat) for kind, model in kinds.items()}
    misses = missed(list(kinds.items()), folder)
    steps.step()
    return {
        "rates": rates,
        "misses": misses,
        "attention": {kv: attention(made(Shape(512, 512, 4), n_ctx=LONG + 512, kv=kv), steps) for kv in CACHES},
        "tensor": tensor,
        "activation": activation(wide, flat, rates["F16"]["prompt"]),
    }


class Steps:
    def __init__(self, say: Say, of: int) -> None:
        self._say, self._of, self._done = say, of, 0

    def step(self) -> None:
        self._done += 1
        self._say({"done": self._done, "of": self._of})


def rate(model: Timed, shape: Shape, flat: Timed) -> dict[str, float]:
    """Picoseconds a weight. What a model without weights takes is taken off, for it counts by itself."""
    cached = (model.best["cached"] - flat.best["cached"]) / shape.weights
    memory = (model.best["memory"] - flat.best["memory"]) / shape.weights
    prompt = (model.best["prompt"] - flat.best["prompt"]) / (shape.prompt_weights * PROMPT)
    least = 1e-15
    return {
        "cached": 1e12 * max(cached, least),
        "memory": 1e12 * max(memory, cached, least),
        "prompt": 1e12 * max(prompt, least),
    }


def missed(kinds: list[tuple[str, Timed]], folder: Path) -> list[tuple[float, float]]:
    """(bytes, share that comes from memory) where the first models, more and more of them, are read in turn."""
    found, least = [], 0.0
    small = [
        (model, (folder / f"{kind}-{WIDTH}-{BLOCKS}.gguf").stat().st_size) for kind, model in kinds if kind[0] != "F"
    ]
    for count in SIZES:
        some, turn = small[:count], f"turn of {count}"
        for _ in range(1 + ROUNDS):
            for model, _size in some:
                model.afresh(turn)
        cached, memory, taken = (sum(model.best[how] for model, _ in some) for how in ("cached", "memory", turn))
        share = (taken - cached) / (memory - cached) if memory > cached else 0.0
        least = max(least, min(1.0, share))  # it only rises: what falls is noise
        found.append((float(sum(size for _, size in some)), least))
    return found


def attention(model: Timed, steps: Steps) -> dict[str, float]:
    """Picoseconds for a value of a head and a token looked back at."""
    values = 4 * 512  # of all blocks
    for _ in range(3):
        model.context.clear()
        for position in range(8):
            model.time("near", 1, position)
        model.context.clear()
        model.time("begin", 512)
        model.time("later", LONG - 512, 512)
        for position in range(8):
            model.time("far", 1, LONG + position)
    steps.step()
    token = (model.best["far"] - model.best["near"]) / (values * LONG)
    prompt = (model.best["later"] - model.best["begin"]) / (values * 512 * 512)
    return {"token": 1e12 * max(0.0, token), "prompt": 1e12 * max(0.0, prompt)}


def activation(wide: Timed, flat: Timed, weight: float) -> float:
    """Seconds a value of width and feed-forward length takes in a prompt, beside the matrices."""
    matrices = WIDE.prompt_weights * PROMPT * weight * 1e-12
    return max(0.0, wide.best["prompt"] - flat.best["prompt"] - matrices) / (PROMPT * WIDE.blocks * (512 + 1024))


def main() -> None:
    say = open_lifeline()
    config = next(heard())
    try:
        say({"answer": measured(Path(config["folder"]), config["threads"], say)})
    except FilbertError as exc:
        say(told(exc))
    os._exit(0)  # the engine's own threads are not waited for


main()
