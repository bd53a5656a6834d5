"""A model in smaller types, written tensor by tensor, whole or not at all; in several files, where the plan says so.

Beside what is to come lies the folder `.NAME.part`. In it are the files as far as they go, and `story.json`, which says
of what they are made and how many tensors are in them: who runs the same again goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from filbert.compress.measure import Measure
from filbert.compress.plan import Plan
from filbert.compress.recipe import Planned
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import alone, move_whole, need_room, write_whole
from filbert.core.jobs import Job, Progress
from filbert.engine.quantiser import STEP, Quantiser, Rounding
from filbert.models.header import Tensor, no_numbers
from filbert.models.parts import projector_of

T = TypeVar("T")

COPY_BYTES = 1 << 22
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
BF16_EXPONENT = 0x7F80  # all of its bits are those of infinity and NaN
TOLD_EACH_S = 1.0  # what a kill may cost
AHEAD = 2  # tensors that are asked for before the first of them is there


def quantise_job(made: Plan, target: Path, *, threads: int | None = None, measure: Measure | None = None) -> Job[Path]:
    """Write the plan's files, of which there is one if nobody wants more, and beside them the model's projector as it
    is, where it has one; gives the first. measure: what tells how much
    was lost, which the file then says; where it fails, what was written is kept for the next run. Raises BadInput for
    weights that are no numbers, DiskFull, StoreReadOnly, StoreBusy."""
    work = target.with_name(f".{target.name}.part")
    story, files = work / "story.json", [work / name for name in made.names(target.name)]
    yield Progress("reading the source")  # a run is known by the sha256 of it, which takes a while of a large one
    with Quantiser(threads=threads) as quantiser, alone(target):
        done = _kept(made, files, story)
        need_room(target.parent, made.size_bytes - (sum(file.stat().st_size for file in files) if done else 0))
        if not done:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        for part, file in zip(made.parts, files, strict=True):
            _write_header(file, made.header(part, made.making))
        try:
            yield from _tensors(made, files, story, done, quantiser)
        except (BadInput, BadModelFile):  # nothing of it will ever be of use
            shutil.rmtree(work)
            raise
        for part, file, size_bytes in zip(made.parts, files, made.header_sizes, strict=True):
            _end(file, size_bytes + part.data_bytes)
        if measure:
            making = replace(made.making, measured=(yield from measure(files[0])))
            _write_header(files[0], made.header(made.parts[0], making))
        if made.source.original.projector:
            yield Progress("copying the projector")
            _bring(made.source.original.projector, projector_of(target.with_name(files[0].name)))
        for file in reversed(files):  # the first of them stands for all
            move_whole(file, target.with_name(file.name))
        shutil.rmtree(work)
    return target.with_name(files[0].name)


def _tensors(made: Plan, files: Sequence[Path], story: Path, done: int, quantiser: Quantiser) -> Job[None]:
    total = sum(each.tensor.count for each in made.tensors)
    so_far = sum(each.tensor.count for each in made.tensors[:done])
    yield Progress(STEP, so_far, total, "weights")
    told = time.monotonic()
    for number, each, rounding in _ahead(_begun(made, files, done, quantiser)):
        if rounding:
            yield from quantiser.written(rounding, so_far, total)
        so_far += each.tensor.count
        yield Progress(STEP, so_far, total, "weights")
        if time.monotonic() - told > TOLD_EACH_S or number + 1 == len(made.tensors):
            _tell(story, made, files, number + 1)
            told = time.monotonic()


def _begun(
    made: Plan, files: Sequence[Path], done: int, quantiser: Quantiser
) -> Iterator[tuple[int, Planned, Rounding | None]]:
    """Each tensor from the number `done` on, with what the quantiser was asked for; None for one that stays as it is,
    and is there now."""
    for number, (each, part, offset) in islice(enumerate(_slots(made, files)), done, None):
        _, file = made.source.tensors[each.tensor.name]
        if each.type == each.tensor.type:
            _copy(file, each.tensor, part, offset)
            yield number, each, None
        else:
            asked = Rounding(each.tensor, file, each.type, made.importance.of(each.tensor) if made.importance else None)
            quantiser.ask(asked, part, offset)
            yield number, each, asked


def _ahead(begun: Iterable[T]) -> Iterator[T]:
    """Each when some more were begun, so that the quantiser never waits."""
    waiting: deque[T] = deque()
    for each in begun:
        waiting.append(each)
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _slots(made: Plan, files: Sequence[Path]) -> Iterator[tuple[Planned, Path, int]]:
    """Of each tensor: the file that it goes into, and where in that."""
    for part, file, start in zip(made.parts, files, made.header_sizes, strict=True):
        for each, place in zip(part.tensors, part.places, strict=True):
            yield each, file, start + place.offset


def _bring(projector: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(projector)):
        with projector.open("rb") as source, write_whole(target) as file:
            shutil.copyfileobj(source, file, COPY_BYTES)


def _copy(source: Path, tensor: Tensor, target: Path, offset: int) -> None:
    with source.open("rb") as file, target.open("r+b") as part:
        file.seek(tensor.offset)
        part.seek(offset)
        left = tensor.size_bytes
        while left and (data := file.read(min(left, COPY_BYTES))):
            if not _all_numbers(data, tensor.type):
                raise no_numbers(tensor.name)
            part.write(data)
            left -= len(data)


def _all_numbers(data: bytes, kind: str) -> bool:
    if kind == "BF16":
        return not (np.frombuffer(data, np.uint16) & BF16_EXPONENT == BF16_EXPONENT).any()
    return kind not in FLOATS or bool(np.isfinite(np.frombuffer(data, FLOATS[kind])).all())


def _write_header(file: Path, header: bytes) -> None:
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(header)
        os.fsync(opened.fileno())


def _end(file: Path, size_bytes: int) -> None:
    """Give it the length that its last tensor is padded to."""
    with file.open("r+b") as opened:
        opened.truncate(size_bytes)
        os.fsync(opened.fileno())


def _kept(made: Plan, files: Sequence[Path], story: Path) -> int:
    """Tensors that an earlier run has written."""
    try:
        told: dict[str, Any] = json.loads(story.read_text("utf-8"))
        return int(told["tensors"]) if told["of"] == made.identity and all(file.exists() for file in files) else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _tell(story: Path, made: Plan, files: Sequence[Path], tensors: int) -> None:
    """The tensors reach the disk before their number does."""
    for file in files:
        with file.open("r+b") as opened:
            os.fsync(opened.fileno())
    with write_whole(story) as written:
        written.write(json.dumps({"of": made.identity, "tensors": tensors}).encode())
