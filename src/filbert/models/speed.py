"""How fast a model will run on this machine, from its header and what the machine was measured to do.

A generated token reads every matrix once: those of each type at the speed of its kernel while they stay in the
processor's cache, and at the slower speed of memory where they do not. On top come a fixed cost for each tensor (a
thread waits for its neighbours), the cost of choosing a token, and the keys and values that are read. A prompt's tokens
share the reading, so there only the arithmetic counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from filbert.core import machine, paths
from filbert.core.files import write_whole
from filbert.models.context_lengths import CONTEXT_STEP
from filbert.models.fit import attention_spans, values_kept
from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.header import ENCODERS, Header, Tensor

Resource: TypeAlias = Literal["memory bandwidth", "compute"]

# A row of these is read for a token, not the whole; the first is the output as well where a file has no other.
EMBEDDING = "token_embd.weight"
LOOKED_UP = (EMBEDDING, "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
GIVE_OR_TAKE = 0.15  # how far a prediction may be off on an idle machine
WAITS_FOR_MEMORY = 1.2  # how much longer than from the cache the weights take before memory is what binds
USABLE_TPS = 6.0  # about as fast as people read
ASSUMED_GB_S = 15.0  # what is left of the 21 that one channel of DDR4-2666 has; laptops with two read faster
BITS = {kind.name: 8 * kind.size_bytes / kind.block for kind in TENSOR_TYPES.values()}


class Rate(BaseModel):
    """Picoseconds a weight of one type takes: to make one token, read from the cache or from memory; in a prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cached: float = Field(gt=0)
    memory: float = Field(gt=0)
    prompt: float = Field(gt=0)


class Attention(BaseModel):
    """Picoseconds, by number type of the cache: for one value of a query's head and each token looked back at, when one
    is made or in a prompt; and for one key or value that is kept of that token."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    token: float = Field(ge=0)
    kept: float = Field(ge=0)
    prompt: float = Field(ge=0)


class Calibration(BaseModel):
    """What a machine was measured to do. misses: (bytes read again and again, share of them that comes from memory),
    rising. tensor, token: seconds for each tensor of a model and for each token; entry: for each entry of the
    vocabulary a token is chosen from; activation: for each value of width and feed-forward length, in a prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    processor: str
    engine: str
    threads: int = Field(gt=0)
    measured: str
    busy_cores: float = Field(ge=0)
    rates: Mapping[str, Rate] = Field(min_length=1)
    misses: tuple[tuple[float, float], ...] = Field(min_length=1)
    attention: Mapping[str, Attention] = Field(min_length=1)
    tensor: float = Field(ge=0)
    token: float = Field(ge=0)
    entry: float = Field(ge=0)
    activation: float = Field(ge=0)


def assumed() -> Calibration:
    """A machine that nobody measured, reckoned with caution: a weight takes the time in which its bytes come from
    memory at ASSUMED_GB_S, and nothing else takes any."""
    times = {kind: bits / 8 / ASSUMED_GB_S * 1000 for kind, bits in BITS.items()}
    return Calibration(
        processor="",
        engine="",
        threads=1,
        measured="",
        busy_cores=0,
        rates={kind: Rate(cached=time, memory=time, prompt=time) for kind, time in times.items()},
        misses=((1.0, 1.0),),
        attention={"f16": Attention(token=0, kept=0, prompt=0)},
        tensor=0,
        token=0,
        entry=0,
        activation=0,
    )


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second; generation None for a model that writes nothing. binds: what a faster machine would need more
    of to generate faster, or to read faster where nothing is generated."""

    generation: float | None
    prompt: float
    binds: Resource


def kept(processor: str, engine: str, threads: int) -> Calibration | None:
    """The calibration of this processor, engine and number of threads, if there was one that can still be read."""
    try:
        found = Calibration.model_validate_json(_file(threads).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if (found.processor, found.engine, found.threads) == (processor, engine, threads) else None


def kept_here(threads: int | None = None) -> Calibration | None:
    """What this machine was measured to do with so many threads, if it was; left out, with as many as it has cores."""
    threads = threads or machine.cores()
    if not _file(threads).is_file():
        return None  # to ask for the engine's build takes longer than all else that is done before a model is loaded
    return kept(machine.processor(), machine.engine_build(), threads)


def keep(calibration: Calibration) -> None:
    """Raises DiskFull, StoreReadOnly."""
    with write_whole(_file(calibration.threads)) as file:
        file.write(calibration.model_dump_json(indent=1).encode())


def _file(threads: int) -> Path:
    return paths.data_folder() / "calibration" / f"{threads}-threads.json"


def predict(headers: Sequence[Header], machine: Calibration, context: int = 0, kv: str = "f16") -> Speed:
    """headers: the model or its parts in order; a projector is passed over. context: tokens already there.
    kv: number type of the key/value cache."""
    parts = [header for header in headers if header.kind != "projector"]
    prompt = 1 / _prompt_token(parts, machine, context, kv)
    if parts[0].kind != "language" or parts[0].architecture in ENCODERS:
        return Speed(None, prompt, "compute")
    cached, weights = _weights(parts, machine, values_kept(parts[0], context) * BITS[kv.upper()] / 8)
    fixed = machine.token + machine.entry * (parts[0].vocab_size or 0)
    waiting = machine.tensor * sum(len(header.tensors) for header in parts)
    looking_back = _looking_back(parts, machine, context, kv)
    token = weights + fixed + waiting + looking_back
    return Speed(1 / token, prompt, "memory bandwidth" if weights > WAITS_FOR_MEMORY * cached else "compute")


def roughly(weights: float, size_bytes: float, quantisation: str, machine: Calibration) -> float:
    """Tokens a second of a model of which only its weights a token and its quantisation are known ("q4_k_m")."""
    kind = "_".join(quantisation.upper().split("_")[:2])
    rate = _nearest_rate(machine, kind if kind in BITS else "Q4_K")
    missed = share_missed(machine, size_bytes)
    return 1 / (machine.token + weights * (rate.cached + missed * max(0.0, rate.memory - rate.cached)) * 1e-12)


def _weights(parts: Sequence[Header], machine: Calibration, beside: float) -> tuple[float, float]:
    """Seconds a token's weights take: all from the cache, and as it will be. beside: bytes that are read with them."""
    used = list(_used(parts, generating=True))
    missed = share_missed(machine, beside + sum(tensor.size_bytes for tensor, _ in used))
    cached = memory = 0.0
    for tensor, share in used:
        rate, count = _nearest_rate(machine, tensor.type), tensor.count * share * 1e-12
        cached += rate.cached * count
        memory += max(rate.cached, rate.memory) * count
    return cached, cached + missed * (memory - cached)


def _looking_back(parts: Sequence[Header], machine: Calibration, context: int, kv: str) -> float:
    """Seconds a token takes for those before it."""
    cost, seen = _nearest_cache(machine, kv), _seen(context)
    return (attention_spans(parts[0], seen) * cost.token + values_kept(parts[0], seen) * cost.kept) * 1e-12


def _seen(context: int) -> int:
    """From two pages of the cache on the threads share out whole pages, and wait for who got the full ones."""
    pages = -(-context // CONTEXT_STEP)
    return pages * CONTEXT_STEP if pages > 1 else context


def _prompt_token(parts: Sequence[Header], machine: Calibration, context: int, kv: str) -> float:
    """Seconds a token of a prompt takes, on average from an empty context to a full one."""
    model = parts[0]
    arithmetic = sum(
        _nearest_rate(machine, tensor.type).prompt * tensor.count * share
        for tensor, share in _used(parts, generating=False)
    )
    looking_back = attention_spans(model, context) / 2 * _nearest_cache(machine, kv).prompt
    feed = max(model.per_layer("feed_forward_length") or (0,))
    values = (model.block_count or 0) * ((model.embedding_length or 0) + feed)
    return (arithmetic + looking_back) * 1e-12 + values * machine.activation


def _used(parts: Sequence[Header], *, generating: bool) -> Iterator[tuple[Tensor, float]]:
    """The matrices a token is multiplied with, and the share of each: of the experts, those that are chosen."""
    model = parts[0]
    experts = model.number("expert_count") or 0
    share = model.expert_used_count / experts if experts else 1.0
    tied = not any(tensor.name == "output.weight" for header in parts for tensor in header.tensors)
    for tensor in (tensor for header in parts for tensor in header.tensors if len(tensor.shape) > 1):
        is_output = tensor.name == "output.weight" or (tied and tensor.name == EMBEDDING)
        if is_output and not generating:  # of a prompt only the last token needs it
            continue
        if is_output or tensor.name not in LOOKED_UP:
            yield tensor, share if "_exps." in tensor.name else 1.0


def share_missed(machine: Calibration, size_bytes: float) -> float:
    """Which share of `size_bytes` that are read again and again comes from memory, between measured sizes by a line."""
    points = ((0.0, 0.0), *machine.misses)
    for (less, low), (more, high) in pairwise(points):
        if size_bytes <= more:
            return low + (high - low) * (size_bytes - less) / (more - less)
    return points[-1][1]


def _nearest_rate(machine: Calibration, kind: str) -> Rate:
    """Of the type itself, or of that with the nearest number of bits."""
    nearest = min(machine.rates, key=lambda known: (known != kind, abs(BITS.get(known, 0) - BITS[kind]), known))
    return machine.rates[nearest]


def _nearest_cache(machine: Calibration, kv: str) -> Attention:
    bits = BITS[kv.upper()]
    nearest = min(machine.attention, key=lambda known: (known != kv, abs(BITS[known.upper()] - bits)))
    return machine.attention[nearest]
