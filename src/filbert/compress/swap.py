"""Sensitivities by swaps: tensors are rounded in the memory of the loaded model, some at a time, and its predictions
are compared with the full model's. Needs no more than the engine.

While errors are small, what the model loses is proportional to their squares, each weighted by how much its column is
used; that error of each tensor and type costs nothing to reckon. So every role (attn_v, ffn_down, …) is measured in one
type, a band of blocks at a time, which gives what an error costs there; and as a whole in a coarser and a finer type,
which tells how far the proportion holds. All else is told by it.
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
from filbert.compress.recipe import BLOCKS, NEED_IMPORTANCE, block_of, quantisable, role_of
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
COARSE, USUAL, FINE = 3.4, 4.5, 5.5  # bits a weight of the types that are measured, or near these
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
    """Bands of the smallest are put together where there would be too many swaps. Raises BadInput for none."""
    header = source.headers[0]
    tensors = [tensor for tensor, _ in source.tensors.values() if quantisable(tensor, header.architecture)]
    by_role: defaultdict[tuple[str, int], defaultdict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for tensor in tensors:
        by_role[role_of(tensor.name), tensor.shape[0]][_band(tensor, header.block_count or 1)].append(tensor)
    blind = {tensor.name for tensor in tensors if not (importance and importance.of(tensor))}
    found = []
    for (name, row), bands in by_role.items():
        some_blind = any(tensor.name in blind for band in bands.values() for tensor in band)
        fitting = [kind for kind in types if row % BLOCKS[kind] == 0 and not (some_blind and kind in NEED_IMPORTANCE)]
        if fitting:
            found.append(Role(f"{name} {row}", [bands[band] for band in sorted(bands)], fitting))
    if not found:
        raise BadInput(
            f"No tensor of {source.stored.name} can have any of these types.",
            why=f"They are {', '.join(types)}.",
            do="Allow more types, or give an importance matrix.",
        )
    smallest_first = sorted(range(len(found)), key=lambda i: sum(tensor.count for tensor in found[i].tensors))
    for i in smallest_first:
        if sum(len(role.bands) + 2 for role in found) <= MOST_SWAPS:
            break
        found[i] = found[i].as_one()
    return found


def swaps_of(role: Role, errors: Errors) -> Iterator[Swap]:
    """The usual type a band at a time, the others of all bands together."""
    coarse, usual, fine = measured_types(role, errors)
    for number, band in enumerate(role.bands):
        yield Swap(f"{role.name} {number} of {len(role.bands)} {usual}", band, usual)
    for kind in {coarse, fine} - {usual}:
        yield Swap(f"{role.name} {kind}", role.tensors, kind)


def measured_types(role: Role, errors: Errors) -> tuple[str, str, str]:
    """Nearest in bits to a coarse, a usual and a fine one; of two as near, that of the smaller error."""

    def nearest(bits: float) -> str:
        return min(
            role.types,
            key=lambda kind: (abs(bits_of(kind) - bits), _sum(errors, role.tensors, kind)),
        )

    return nearest(COARSE), nearest(USUAL), nearest(FINE)


def told(role: Role, errors: Errors, losses: Mapping[str, float]) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each tensor its losses. What a band loses in the usual type is shared out by error, and goes with it from type
    to type; what the whole role lost beside what is told so, in types that were measured, mends the others between."""
    usual = measured_types(role, errors)[1]
    costs = []  # of an error, of each band
    for number, band in enumerate(role.bands):
        error = _sum(errors, band, usual)
        costs.append(losses[f"{role.name} {number} of {len(role.bands)} {usual}"] / error if error else 0.0)

    def expected(kind: str) -> float:
        return sum(cost * _sum(errors, band, kind) for cost, band in zip(costs, role.bands, strict=True))

    points = [(math.log(expected(usual)), 1.0)] if expected(usual) else []
    for kind in set(measured_types(role, errors)) - {usual}:
        if expected(kind):
            points.append((math.log(expected(kind)), losses[f"{role.name} {kind}"] / expected(kind)))
    places, ratios = zip(*sorted(points), strict=True) if points else ((0.0,), (1.0,))
    mended = {
        kind: float(np.interp(math.log(total), places, ratios)) if (total := expected(kind)) else 1.0
        for kind in role.types
    }
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
