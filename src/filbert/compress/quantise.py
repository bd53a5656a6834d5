"""A model file in smaller types, written tensor by tensor, whole or not at all.

Beside the file that is to come lies `.NAME.part`, which is that file as far as it goes, and `.NAME.part.json`, which
says of what it is made and how many tensors are in it: who runs the same again goes on from there.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from filbert.compress.plan import Plan
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import alone, move_whole, need_room, write_whole
from filbert.core.jobs import Job, Progress
from filbert.engine.quantiser import STEP, Quantiser, Rounding
from filbert.models.header import Tensor

COPY_BYTES = 1 << 22
TOLD_EACH_S = 1.0


def quantise_job(made: Plan, target: Path, *, threads: int | None = None) -> Job[Path]:
    """Write the plan's file. Raises BadInput for weights that are no numbers, DiskFull, StoreReadOnly, StoreBusy."""
    part, story = (target.with_name(f".{target.name}{ending}") for ending in (".part", ".part.json"))
    yield Progress("reading the source")  # a run is known by the sha256 of it, which takes a while of a large one
    with alone(target):
        done = _kept(made, part, story)
        need_room(target.parent, made.size_bytes - (part.stat().st_size if done else 0))
        if not done:
            part.write_bytes(made.header)
        try:
            yield from _tensors(made, part, story, done, threads)
        except (BadInput, BadModelFile):  # nothing of it will ever be of use
            part.unlink()
            story.unlink(missing_ok=True)
            raise
        with part.open("r+b") as file:
            file.truncate(made.size_bytes)
            os.fsync(file.fileno())
        move_whole(part, target)
        story.unlink(missing_ok=True)
    return target


def _tensors(made: Plan, part: Path, story: Path, done: int, threads: int | None) -> Job[None]:
    total = sum(each.tensor.count for each in made.tensors)
    so_far = sum(each.tensor.count for each in made.tensors[:done])
    yield Progress(STEP, so_far, total, "weights")
    told = time.monotonic()
    with Quantiser(threads=threads) as quantiser:
        for number, (each, place) in enumerate(zip(made.tensors, made.places, strict=True)):
            if number < done:
                continue
            _, file = made.source.tensors[each.tensor.name]
            offset = len(made.header) + place.offset
            if each.type == each.tensor.type:
                _copy(file, each.tensor, part, offset)
                yield Progress(STEP, so_far + each.tensor.count, total, "weights")
            else:
                importance = made.importance.of(each.tensor) if made.importance else None
                asked = Rounding(each.tensor, file, each.type, importance)
                yield from quantiser.quantise(asked, part, offset, so_far, total)
            so_far += each.tensor.count
            if time.monotonic() - told > TOLD_EACH_S:
                _tell(story, made, part, number + 1)
                told = time.monotonic()


def _copy(source: Path, tensor: Tensor, target: Path, offset: int) -> None:
    with source.open("rb") as file, target.open("r+b") as part:
        file.seek(tensor.offset)
        part.seek(offset)
        left = tensor.size_bytes
        while left and (data := file.read(min(left, COPY_BYTES))):
            part.write(data)
            left -= len(data)


def _kept(made: Plan, part: Path, story: Path) -> int:
    """Tensors that an earlier run has written."""
    try:
        told: dict[str, Any] = json.loads(story.read_text("utf-8"))
        return int(told["tensors"]) if told["of"] == made.identity and part.exists() else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _tell(story: Path, made: Plan, part: Path, tensors: int) -> None:
    """The tensors reach the disk before their number does."""
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    with write_whole(story) as file:
        file.write(json.dumps({"of": made.identity, "tensors": tensors}).encode())
