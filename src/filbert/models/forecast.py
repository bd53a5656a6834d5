"""Whether a model fits this machine now, with how much context, and how fast it will be: from its header alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from filbert.core.errors import BadInput
from filbert.core.machine import Memory
from filbert.models.context_lengths import LEAST_CONTEXT
from filbert.models.fit import Demand, Fit, default_context, estimate, prompt_cache_default
from filbert.models.header import Header
from filbert.models.speed import Calibration, Speed, predict


@dataclass(frozen=True, slots=True)
class Forecast:
    """Tokens and bytes. fits: whether `memory` is available now. largest_context: up to the trained length; 0 where not
    even 512 tokens fit. empty, full: speed with nothing before, and with `context` tokens; None where this machine
    could not be measured."""

    name: str
    quantisation: str
    context: int
    trained: int | None
    kv: str
    memory: Fit
    available: int
    fits: bool
    largest_context: int
    empty: Speed | None
    full: Speed | None


def forecast(
    name: str,
    headers: Sequence[Header],
    memory: Memory,
    calibration: Calibration | None,
    context: int | None = None,
    demand: Demand | None = None,
) -> Forecast:
    """headers: parts in order, then a projector. context: left out, what would be taken at load."""
    demand = demand or Demand(prompt_cache_bytes=prompt_cache_default(memory))
    if headers[0].kind != "language":
        demand = replace(demand, prompt_cache_bytes=0)
    trained = headers[0].context_length
    context = context or _fitting(headers, memory, demand) or min(trained or LEAST_CONTEXT, LEAST_CONTEXT)
    if trained:
        context = min(context, trained)
    needed = estimate(headers, context, demand)
    return Forecast(
        name=name,
        quantisation=headers[0].quantisation,
        context=context,
        trained=trained,
        kv=demand.kv,
        memory=needed,
        available=memory.available,
        fits=needed.total <= memory.available,
        largest_context=_fitting(headers, memory, demand, trained),
        empty=predict(headers, calibration, 0, demand.kv) if calibration else None,
        full=predict(headers, calibration, context, demand.kv) if calibration else None,
    )


def _fitting(headers: Sequence[Header], memory: Memory, demand: Demand, most: int | None = None) -> int:
    """The largest context that fits, at most `most` or what is taken by default; 0 for none."""
    try:
        return default_context(headers, memory, demand, most) if most else default_context(headers, memory, demand)
    except BadInput:
        return 0
