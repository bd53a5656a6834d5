"""The calibration's child: times the engine's kernels with models that hold next to nothing.

Told {"folder": …, "threads": …}; says {"done": …, "of": …} now and then, and at last {"answer": …} or {"error": …}.

Some models together, the ballast, are larger than a processor's cache: whoever comes after them reads its weights from
memory, and a second time from the cache. How much of a model the cache holds is seen by reading ever more of them in
turn. Of every time the fastest quarter counts, at its end: other programs only make it longer, and the very best
happens too seldom to be promised.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from filbert.core.errors import FilbertError
from filbert.engine.answering import told
from filbert.engine.calibration_model import Shape, write
from filbert.engine.capi import Context, Engine, Rows, Weights, open_engine
from filbert.engine.lifeline import heard, open_lifeline
from filbert.models.context_lengths import CONTEXT_STEP

KINDS = (
    *("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"),
)
CACHES = ("f16", "q8_0")
WIDTH, FEED = 1024, 2048
BLOCKS = 2
HEAVY, BALLAST = "Q8_0", (2, 2, 2, 2, 2, 4, 6, 10)  # type and blocks, 280 MB in all
PROMPT, PROMPTS = 256, 3
ROUNDS, LEAST_ROUNDS = 10, 4
MOST_S = 5.0
TURNS = 8
BATCH, LONG = 512, 1536
DEEP, FLAT = Shape(64, 64, 26), Shape(64, 64, 2)
WIDE = Shape(512, 1024, 8)
ALONE, SHARED = (Shape(512, 512, 4, sharing=heads, filled=True) for heads in (1, 8))
STEPS = len(KINDS) + len(BALLAST) + ROUNDS + PROMPTS + 2 * len(CACHES)
FASTEST = 0.2
Say = Callable[[dict[str, Any]], None]


class Timed:
    """A loaded model, and the times it took."""

    def __init__(
        self, engine: Engine, path: Path, threads: int, shape: Shape, *, n_ctx: int = BATCH, kv: str = "f16"
    ) -> None:
        self.shape = shape
        self.context = Context(Weights(engine, str(path)), n_ctx, threads, kv=kv)
        self.times: defaultdict[str, list[float]] = defaultdict(list)

    def took(self, what: str) -> float:
        return float(np.quantile(self.times[what], FASTEST))

    def time(self, what: str, tokens: int, start: int = 0) -> None:
        """Keep the seconds that `tokens` take after `start` under `what`."""
        rows = Rows(
            np.arange(start, start + tokens, dtype=np.int32) % self.shape.vocabulary,
            np.arange(start, start + tokens, dtype=np.int32),
            np.ones(tokens, np.int32),
            np.zeros(tokens, np.int32),
            np.arange(tokens) == tokens - 1,
        )
        began = time.perf_counter()
        for _ in self.context.decode(rows):
            pass
        self.times[what].append(time.perf_counter() - began)

    def afresh(self, what: str, tokens: int = 1) -> None:
        self.context.clear()
        self.time(what, tokens)

    def visit(self) -> None:
        self.afresh("memory")
        for position in range(1, 6):
            self.time("cached", 1, position)


class Bench:
    """Makes the models, and says how far the work is."""

    def __init__(self, folder: Path, threads: int, say: Say) -> None:
        self._folder, self._threads, self._say = folder, threads, say
        self._engine = open_engine()
        self._done = self._made = 0

    def made(self, shape: Shape, **how: Any) -> Timed:
        self._made += 1
        path = write(self._folder / f"{self._made}.gguf", shape)
        return Timed(self._engine, path, self._threads, shape, **how)

    def step(self) -> None:
        self._done += 1
        self._say({"done": self._done, "of": STEPS})


def measured(bench: Bench) -> dict[str, Any]:
    ballast = [bench.made(Shape(WIDTH, FEED, blocks, HEAVY)) for blocks in BALLAST]
    kinds = {}
    for kind in KINDS:
        kinds[kind] = bench.made(Shape(WIDTH, FEED, BLOCKS, kind))
        bench.step()
    flat, deep, wide = (bench.made(shape) for shape in (FLAT, DEEP, WIDE))
    sizes = [in_turn(ballast[: count + 1], bench) for count in range(len(BALLAST))]
    take_turns((*kinds.values(), flat, deep), ballast, bench)
    for _ in range(PROMPTS):
        for model in (*kinds.values(), flat, wide):
            model.afresh("prompt", PROMPT)
        bench.step()
    looking_back = {kv: attention(*(look(shape, kv, ballast, bench) for shape in (ALONE, SHARED))) for kv in CACHES}
    tensor = max(0.0, (deep.took("cached") - flat.took("cached")) / (DEEP.tensors - FLAT.tensors))
    prompt = looking_back["f16"]["prompt"]
    rates = {kind: rate(model, flat, prompt) for kind, model in kinds.items()}
    return {
        "rates": rates,
        "misses": missed(sizes, rates[HEAVY], tensor),
        "attention": looking_back,
        "tensor": tensor,
        "activation": activation(wide, flat, rates["F16"]["prompt"], prompt),
        "processor_s": time.process_time(),
    }


def in_turn(models: Sequence[Timed], bench: Bench) -> tuple[Sequence[Shape], float]:
    """Models that are read again and again, and the seconds they took together."""
    turn = f"turn of {len(models)}"
    for _ in range(1 + TURNS):
        for model in models:
            model.afresh(turn)
    bench.step()
    return [model.shape for model in models], sum(model.took(turn) for model in models)


def evict(ballast: Sequence[Timed]) -> None:
    for model in ballast:
        model.afresh("evict")


def take_turns(models: Sequence[Timed], ballast: Sequence[Timed], bench: Bench) -> None:
    began = time.monotonic()
    for round_ in range(ROUNDS):
        if round_ >= LEAST_ROUNDS and time.monotonic() - began > MOST_S:
            break  # other programs make it take longer, and more of it no better
        for model in models:
            evict(ballast)
            model.visit()
        bench.step()


def rate(model: Timed, flat: Timed, looking_back: float) -> dict[str, float]:
    """Picoseconds a weight. What a model without weights takes is taken off, for it counts by itself."""
    shape = model.shape
    cached = (model.took("cached") - flat.took("cached")) / shape.weights
    memory = (model.took("memory") - flat.took("memory")) / shape.weights
    prompt = (model.took("prompt") - flat.took("prompt") - looked(shape, looking_back)) / (
        shape.prompt_weights * PROMPT
    )
    least = 1e-15
    return {
        "cached": 1e12 * max(cached, least),
        "memory": 1e12 * max(memory, cached, least),
        "prompt": 1e12 * max(prompt, least),
    }


def looked(shape: Shape, picoseconds: float) -> float:
    """Seconds a prompt's tokens take to look back at one another."""
    return shape.blocks * shape.width * PROMPT * PROMPT / 2 * picoseconds * 1e-12


def missed(
    sizes: Sequence[tuple[Sequence[Shape], float]], known: dict[str, float], tensor: float
) -> list[tuple[float, float]]:
    """(bytes, share of them that comes from memory) of what is read again and again."""
    found, least, span = [], 0.0, known["memory"] - known["cached"]
    for shapes, took in sizes:
        weights, tensors = sum(shape.weights for shape in shapes), sum(shape.tensors for shape in shapes)
        weight = 1e12 * (took - tensor * tensors) / weights
        share = (weight - known["cached"]) / span if span > 0 else 0.0
        least = max(least, min(1.0, share))  # it only rises: what falls is noise
        found.append((float(sum(shape.size_bytes for shape in shapes)), least))
    return found


def attention(alone: Timed, shared: Timed) -> dict[str, float]:
    """Picoseconds for a value of a query's head and a token looked back at, and for a key or value kept of that token:
    two models with as many of the former and different numbers of the latter tell them apart."""
    looked, batched = LONG + CONTEXT_STEP, LONG - BATCH  # of a page of the cache all that is there counts
    first, second = (
        (model.took("far") - model.took("near")) / (model.shape.blocks * looked) for model in (alone, shared)
    )
    kept = max(0.0, first - second) / (ALONE.kept - SHARED.kept)
    token = (second - kept * SHARED.kept) / SHARED.width
    slower = sum(model.took("later") - model.took("begin") for model in (alone, shared)) / 2
    prompt = slower / (SHARED.blocks * SHARED.width * BATCH * batched)
    return {"token": 1e12 * max(0.0, token), "kept": 1e12 * kept, "prompt": 1e12 * max(0.0, prompt)}


def look(shape: Shape, kv: str, ballast: Sequence[Timed], bench: Bench) -> Timed:
    """A model that was timed with nothing to look back at and with much."""
    model = bench.made(shape, n_ctx=LONG + BATCH, kv=kv)
    afresh(model, "near", 0, ballast)
    model.afresh("begin", BATCH)
    for start in range(BATCH, LONG - BATCH, BATCH):
        model.time("between", BATCH, start)
    model.time("later", BATCH, LONG - BATCH)
    afresh(model, "far", LONG, ballast)
    bench.step()
    return model


def afresh(model: Timed, what: str, start: int, ballast: Sequence[Timed]) -> None:
    for position in range(start, start + TURNS):
        evict(ballast)
        model.time(what, 1, position)


def activation(wide: Timed, flat: Timed, weight: float, looking_back: float) -> float:
    """Seconds a value of width and feed-forward length takes in a prompt, beside the matrices."""
    matrices = WIDE.prompt_weights * PROMPT * weight * 1e-12 + looked(WIDE, looking_back)
    values = WIDE.blocks * (WIDE.width + WIDE.feed)
    return max(0.0, wide.took("prompt") - flat.took("prompt") - matrices) / (PROMPT * values)


def main() -> None:
    say = open_lifeline()
    config = next(heard())
    try:
        bench = Bench(Path(config["folder"]), config["threads"], say)  # which outlives the models: they log as they go
        say({"answer": measured(bench)})
    except FilbertError as exc:
        say(told(exc))
    os._exit(0)  # the engine's own threads are not waited for


main()
