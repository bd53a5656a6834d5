"""Sensitivities by swaps: tensors are rounded in the memory of the loaded model, some at a time, and its predictions
are compared with the full model's. Needs no more than the engine.

While errors are small, what the model loses is proportional to their squares, each weighted by how much its column is
used; that error of each tensor and type costs little to reckon. It is taken as a share of the tensor's own squares,
which does not change with the model's symmetries (a column that is larger where its input is smaller). So every role
(attn_v, ffn_down, …) is measured in one type, a band of blocks at a time, which gives what an error costs there; and as
a whole in the other types that may be of use, for errors that go together cost more than their squares tell: of attn_v
of a model of 135M, Q5_0 lost three times as much as Q4_1, whose error is the same. All else is told by the proportion.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from filbert.compress.imatrix import ImportanceMatrix
from filbert.compress.plan import Source
from filbert.compress.recipe import BLOCKS, block_of, fitting, quantisable, role_of
from filbert.compress.sensitivity import Sensitivity
from filbert.core.errors import BadInput
from filbert.core.files import alone, write_whole
from filbert.core.jobs import Job, Progress
from filbert.engine.divergence import SWAP, Divergence
from filbert.engine.quantiser import Quantiser, Rounding
from filbert.models.gguf import check_split
from filbert.models.gguf_write import size_of
from filbert.models.header import Tensor

MAKER = "swap"
USUAL = 4.5  # bits a weight of the type that bands are measured in, or near that
FINEST = 6.1  # bits: what finer types lose is so little that the error may tell it
BAND_ENDS = (1, 4, 7)  # eighths of the blocks: the first ones and the last are not as those between
MOST_SWAPS = 100
ERRORS = "rounding errors"
Errors = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Role:
    """Tensors that do the same, of rows of one length. types: that all of them can have."""

    name: str
    bands: Sequence[Sequence[Tensor]]
    types: Sequence[str]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for band in self.bands for tensor in band]

    def as_one(self) -> Role:
        return Role(self.name, [self.tensors], self.types)


@dataclass(frozen=True, slots=True)
class Swap:
    """Tensors that are rounded together."""

    name: str
    tensors: Sequence[Tensor]
    type: str


@dataclass
class Kept:
    """What was found so far, in a file. losses: by the name of the swap."""

    file: Path
    identity: str
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)

    def read(self) -> None:
        try:
            told: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
            if told["of"] == self.identity:
                self.errors, self.losses = told["errors"], told["losses"]
        except (OSError, ValueError, KeyError, TypeError):
            return

    def write(self) -> None:
        with write_whole(self.file) as file:
            file.write(json.dumps({"of": self.identity, "errors": self.errors, "losses": self.losses}).encode())


def swap_job(
    divergence: Divergence, importance: ImportanceMatrix | None, types: Sequence[str], kept: Path
) -> Job[Sensitivity]:
    """Sensitivities to these types of all that can be quantised. kept: a file that each measurement is written to as it
    comes, so that who asks again, of other types too, goes on from there. Raises BadInput where no tensor can have any
    of the types, and as Divergence and Quantiser do; StoreBusy, DiskFull."""
    full = divergence.full
    source = Source(full.stored, check_split(full.stored.parts))
    asked = [divergence.identity, importance.sha256 if importance else ""]
    found = Kept(kept, hashlib.sha256(json.dumps(asked).encode()).hexdigest())
    found_roles = roles(source, importance, types)
    with alone(kept):
        found.read()
        yield from _errors(found_roles, source, importance, found, full.threads)
        found_roles = fewer(found_roles, found.errors)
        swaps = [swap for role in found_roles for swap in swaps_of(role, found.errors)]
        for number, swap in enumerate(swaps):
            if swap.name not in found.losses:
                roundings = [_rounding(tensor, source, importance, swap.type) for tensor in swap.tensors]
                kl = yield from _counted(divergence.swapped(roundings), number, len(swaps))
                found.losses[swap.name] = float(kl.mean())
                found.write()
        yield Progress(SWAP, len(swaps), len(swaps), "swaps")
    losses = {name: by_type for role in found_roles for name, by_type in told(role, found.errors, found.losses)}
    return Sensitivity(MAKER, found.identity, losses)


def roles(source: Source, importance: ImportanceMatrix | None, types: Sequence[str]) -> list[Role]:
    """Raises BadInput for none."""
    header = source.headers[0]
    tensors = [tensor for tensor, _ in source.tensors.values() if quantisable(tensor, header.architecture)]
    by_role: defaultdict[tuple[str, int], defaultdict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for tensor in tensors:
        by_role[role_of(tensor.name), tensor.shape[0]][_band(tensor, header.block_count or 1)].append(tensor)
    blind = {tensor.name for tensor in tensors if not (importance and importance.of(tensor))}
    found = []
    for (name, row), bands in by_role.items():
        some_blind = any(tensor.name in blind for band in bands.values() for tensor in band)
        if possible := fitting(types, row, is_covered=not some_blind):
            found.append(Role(f"{name} {row}", [bands[band] for band in sorted(bands)], possible))
    if not found:
        raise BadInput(
            f"No tensor of {source.stored.name} can have any of these types.",
            why=f"They are {', '.join(types)}.",
            do="Allow more types, or give an importance matrix.",
        )
    return found


def fewer(found: Sequence[Role], errors: Errors) -> list[Role]:
    """With the bands of the smallest put together, where there would be too many swaps."""
    found = list(found)
    for i in sorted(range(len(found)), key=lambda i: sum(tensor.count for tensor in found[i].tensors)):
        if sum(len(list(swaps_of(role, errors))) for role in found) <= MOST_SWAPS:
            break
        found[i] = found[i].as_one()
    return found


def swaps_of(role: Role, errors: Errors) -> Iterator[Swap]:
    """The usual type a band at a time, the others of all bands together."""
    usual, *others = measured_types(role, errors)
    for number, band in enumerate(role.bands):
        yield Swap(f"{role.name} {number} of {len(role.bands)} {usual}", band, usual)
    for kind in others:
        yield Swap(f"{role.name} {kind}", role.tensors, kind)


def measured_types(role: Role, errors: Errors) -> list[str]:
    """The usual one first; and those that err less than any other of no more bits, but for the finest."""
    order = sorted(role.types, key=lambda kind: (bits_of(kind), _sum(errors, role.tensors, kind)))
    found: list[str] = []
    for kind in order:
        least = min((_sum(errors, role.tensors, other) for other in found), default=math.inf)
        if not found or (bits_of(kind) <= FINEST and _sum(errors, role.tensors, kind) < least):
            found.append(kind)
    return sorted(found, key=lambda kind: abs(bits_of(kind) - USUAL))


def told(role: Role, errors: Errors, losses: Mapping[str, float]) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each tensor its losses. What a band loses in the usual type is shared out by error, and goes with it from type
    to type; what the whole role lost beside what is told so mends that type, and the others by their place between."""
    usual, *others = measured_types(role, errors)
    costs = []  # of an error, of each band
    for number, band in enumerate(role.bands):
        error = _sum(errors, band, usual)
        costs.append(losses[f"{role.name} {number} of {len(role.bands)} {usual}"] / error if error else 0.0)
    expected = {
        kind: sum(cost * _sum(errors, band, kind) for cost, band in zip(costs, role.bands, strict=True))
        for kind in role.types
    }
    mended = {kind: losses[f"{role.name} {kind}"] / expected[kind] for kind in others if expected[kind]}
    mended[usual] = 1.0
    places, ratios = zip(*sorted((expected[kind], ratio) for kind, ratio in mended.items()), strict=True)
    for kind in role.types:
        mended.setdefault(kind, float(np.interp(expected[kind], places, ratios)))
    for cost, band in zip(costs, role.bands, strict=True):
        for tensor in band:
            yield tensor.name, {kind: cost * errors[tensor.name][kind] * mended[kind] for kind in role.types}


def bits_of(kind: str) -> float:
    return 8 * size_of((BLOCKS[kind],), kind) / BLOCKS[kind]


def _band(tensor: Tensor, n_blocks: int) -> int:
    return sum(8 * block_of(tensor.name) >= n_blocks * eighths for eighths in BAND_ENDS)


def _errors(
    found_roles: Sequence[Role], source: Source, importance: ImportanceMatrix | None, found: Kept, threads: int
) -> Job[None]:
    asked = [(tensor, role.types) for role in found_roles for tensor in role.tensors]
    with Quantiser(threads=threads) as quantiser:
        for number, (tensor, types) in enumerate(asked):
            yield Progress(ERRORS, number, len(asked), "tensors")
            known = found.errors.setdefault(tensor.name, {})
            if missing := [kind for kind in types if kind not in known]:
                known |= quantiser.errors(_rounding(tensor, source, importance, missing[0]), missing)
                found.write()


def _rounding(tensor: Tensor, source: Source, importance: ImportanceMatrix | None, kind: str) -> Rounding:
    return Rounding(tensor, source.tensors[tensor.name][1], kind, importance.of(tensor) if importance else None)


def _counted(job: Job[Any], number: int, total: int) -> Job[Any]:
    """A swap's windows as parts of all swaps."""
    while True:
        try:
            event = next(job)
        except StopIteration as end:
            return end.value
        if event.step == SWAP and event.total:
            event = Progress(SWAP, number + event.done / event.total, total, "swaps")
        yield event


def _sum(errors: Errors, tensors: Sequence[Tensor], kind: str) -> float:
    return math.fsum(errors[tensor.name][kind] for tensor in tensors)
