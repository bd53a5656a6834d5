"""From what a person wants to a plan: by bytes it is known beforehand; by quality or speed, files are made and measured
until one is it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from filbert.compress.measure import measure_job
from filbert.compress.optimise import Table
from filbert.compress.plan import Plan
from filbert.compress.prepare import folder_of
from filbert.compress.quantise import quantise_job
from filbert.compress.wanted import Wanted
from filbert.core.errors import BadInput
from filbert.core.files import make_folder, size
from filbert.core.jobs import Job, Progress
from filbert.core.machine import Memory
from filbert.core.settings import configured
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.sampling import Sampling
from filbert.models import fit
from filbert.models.context_lengths import MOST_CONTEXT
from filbert.models.gguf import read_header
from filbert.models.store import in_place

T = TypeVar("T")

TRIES = 5
NEAR = 0.03  # of a quality: that near below it is good enough
OF_ACTIVATIONS = 0.004  # nats a token that the engine's 8-bit activations cost any file; the first guess only
SPOKEN = 48  # tokens, to know a speed by
PROMPT = "Once upon a time"


def plan_job(table: Table, wanted: Wanted, load: LoadOptions, how: Mapping[str, Any]) -> Job[Plan]:
    """how: as `plan` takes it. Raises BadInput where no file is as small, as near to its source, or as fast."""
    match wanted.kind:
        case "size":
            return table.of_size(int(wanted.value), wanted.text, **how)
        case "bpw":
            return table.of_bits(wanted.value, wanted.text, **how)
        case "device":
            return _for_memory(table, int(wanted.value), wanted.text, how)
        case "quality":
            return (yield from _of_quality(table, wanted, load, how))
        case "speed":
            return (yield from _of_speed(table, wanted, load, how))


def _for_memory(table: Table, memory: int, name: str, how: Mapping[str, Any]) -> Plan:
    """The best that runs in so much with the context that it would get where there is room: in one pass after another,
    for what is held twice depends on the types."""
    header = table.source.headers[0]
    context = min(header.context_length or MOST_CONTEXT, MOST_CONTEXT)
    demand = fit.Demand(prompt_cache_bytes=fit.prompt_cache_default(Memory(memory, memory)))
    with_it = [read_header(table.source.original.projector)] if table.source.original.projector else []
    left = memory - fit.estimate([*table.source.headers, *with_it], context, demand).own
    while True:
        if left <= 0:
            raise BadInput(
                f"{table.source.original.name} does not run in {size(memory)}.",
                why=f"Its context of {context} tokens and what holds it take {size(memory - left)} without a weight.",
                do="Allow more, or take a smaller model.",
            )
        made = table.of_size(left, name, **how)
        over = fit.estimate([made.as_header(), *with_it], context, demand).total - memory
        if over <= 0:
            return made
        left -= over


def _of_quality(table: Table, wanted: Wanted, load: LoadOptions, how: Mapping[str, Any]) -> Job[Plan]:
    """The smallest whose measured KL divergence is no more. What the table tells is too little by about as much for one
    size as for the next, so that each measurement mends the next guess."""
    more, nearest = OF_ACTIVATIONS, math.inf
    best: Plan | None = None
    sizes: set[int] = set()
    for number in range(TRIES):
        yield Progress("trying sizes", number, TRIES, "files")
        made = table.of_size(table.size_for(wanted.value - more, wanted.text, **how), wanted.text, **how)
        if made.size_bytes in sizes:
            break
        sizes.add(made.size_bytes)
        found = yield from tried(made, partial(measure_job, made, load=load))
        kl = found.kinds[0].kl.value
        nearest, more = min(nearest, kl), kl - table.loss(made)
        if kl <= wanted.value and (best is None or made.size_bytes < best.size_bytes):
            best = made
        if (1 - NEAR) * wanted.value < kl <= wanted.value:
            break
    if best is None:
        raise BadInput(
            f"No file of {table.source.original.name} is as near to it as {wanted.value:g} nats a token.",
            why=f"The nearest that was measured is {nearest:.4f} from it.",
            do="Ask for less, or keep the full model.",
        )
    return best


def _of_speed(table: Table, wanted: Wanted, load: LoadOptions, how: Mapping[str, Any]) -> Job[Plan]:
    """The best of the curve that writes so many tokens a second, here and now."""
    points = table.curve(wanted.text, **how)
    speeds: dict[int, float] = {}

    def is_fast(i: int) -> Job[bool]:
        if i not in speeds:
            made = table.of_size(points[i].size_bytes, wanted.text, **how)
            speeds[i] = yield from tried(made, partial(_speed, load=load))
        return speeds[i] >= wanted.value

    low, high = 0, len(points) - 1
    while low <= high:
        middle = (low + high) // 2
        if (yield from is_fast(middle)):
            low = middle + 1
        else:
            high = middle - 1
    # A smaller file is not always a faster one.
    for i in [high] if high >= 0 else range(len(points) - 1, 0, -max(1, len(points) // TRIES)):
        if (yield from is_fast(i)):
            return table.of_size(points[i].size_bytes, wanted.text, **how)
    raise BadInput(
        f"No file of {table.source.original.name} writes {wanted.value:g} tokens a second on this machine.",
        why=f"The fastest that was measured writes {max(speeds.values()):.1f}.",
        do="Ask for less, or take a smaller model.",
    )


def tried(made: Plan, measure: Callable[[Path], Job[T]]) -> Job[T]:
    """A file that is written, measured and gone."""
    kept = folder_of(made.source.original)
    make_folder(kept)
    with tempfile.TemporaryDirectory(prefix="try-", dir=kept) as folder:
        file = yield from quantise_job(made, Path(folder) / "try.gguf")
        return (yield from measure(file))


def _speed(file: Path, load: LoadOptions) -> Job[float]:
    """Tokens a second while it writes."""
    yield Progress("measuring the speed")
    with Model(in_place(file), load) as model:
        model.complete(PROMPT, configured(Sampling, {"max_tokens": 4})).reply()  # warms
        said = model.complete(PROMPT, configured(Sampling, {"max_tokens": SPOKEN, "temperature": 0})).reply()
        return said.timings.generation_tps
