"""What all sizes of a model are made from: an importance matrix and a sensitivity, measured once and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filbert.compress.compress_options import Maker
from filbert.compress.extra import TO_TRAIN, missing, need_extra
from filbert.compress.gradient import gradient_job, windows_of
from filbert.compress.imatrix import ImportanceMatrix, Text, imatrix_job, read_imatrix
from filbert.compress.making import VERSIONS
from filbert.compress.optimise import Table
from filbert.compress.plan import Source
from filbert.compress.sensitivity import Sensitivity, read_sensitivity
from filbert.compress.swap import swap_job
from filbert.core import paths
from filbert.core.errors import BadInput, StoreBusy
from filbert.core.files import alone
from filbert.core.jobs import Job
from filbert.engine.divergence import Divergence
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.models.store import StoredModel

TYPES = (
    *("Q3_K", "IQ3_S", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K", "Q4_1", "Q5_0", "Q5_K", "Q5_1", "Q6_K", "Q8_0"),
    "MXFP4",
)
SMALL_TYPES = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K", "IQ3_XXS")  # slow to make, and of use to few
CHUNK = 2000  # characters that stay together when a text is parted
CHARACTERS = 60_000  # of a part
LEFT_S = 7 * 86400.0  # that what a killed run left waits for another
PARTS = 4  # at least, so that what one of them tells is judged by another
IMPORTANCE, TABLE, UNSEEN = (0, 3), (1,), (2,)  # the parts that are for each
IMATRIX_WINDOW = 512
SWAP_WINDOW, SWAP_WINDOWS = 192, 5  # of all texts together; of each one at least


@dataclass(frozen=True)
class Asked:
    """load: how the source is; importance: None to make one; types: that tensors may get."""

    source: Source
    load: LoadOptions
    texts: Sequence[Text]
    importance: ImportanceMatrix | None
    maker: Maker = "auto"
    types: Sequence[str] = TYPES

    @property
    def full(self) -> LoadPlan:
        return LoadPlan(self.source.stored, self.load)

    @property
    def folder(self) -> Path:
        return folder_of(self.source.stored)

    def named(self, what: str, *made_of: object) -> Path:
        """A file for what is made of these, the texts and the model."""
        asked = [[(text.text, text.special) for text in self.texts], VERSIONS, *made_of]
        return self.folder / f"{what}-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"


def folder_of(model: StoredModel) -> Path:
    """Of what was measured of it."""
    return paths.compressions_folder() / model.sha256[:16]


def clean() -> None:
    """Remove what runs that were killed left, and nobody went on with for long: folders, and models re-scaled."""
    for each in paths.compressions_folder().glob("*/*"):
        is_result = each.is_file() and (each.suffix != ".gguf" or "imatrix" in each.name)
        with suppress(FileNotFoundError, StoreBusy):  # another process was quicker, or went on with it
            if is_result or time.time() - each.stat().st_mtime < LEFT_S:
                continue
            with alone(each):
                if each.is_dir():
                    shutil.rmtree(each, ignore_errors=True)
                else:
                    each.unlink()


def table_job(asked: Asked) -> Job[Table]:
    """The table of a model. What was measured before is not measured again. Raises as `imatrix_job`, `gradient_job` and
    `swap_job`; BadInput of the second only where it was asked for by name."""
    if asked.maker == "gradient":
        need_extra("A sensitivity by gradients", TO_TRAIN)  # before anything is measured
    asked.folder.mkdir(parents=True, exist_ok=True)
    importance = asked.importance or (yield from importance_job(asked))
    if asked.maker == "gradient" or (asked.maker == "auto" and not missing(TO_TRAIN)):
        try:
            return Table(asked.source, importance, (yield from _sensitivity(asked, importance, "gradient")))
        except BadInput:
            if asked.maker == "gradient":
                raise
    return Table(asked.source, importance, (yield from _sensitivity(asked, importance, "swap")))


def importance_job(asked: Asked) -> Job[ImportanceMatrix]:
    """That of a part of the texts. Raises as `imatrix_job`."""
    texts = part_of(asked.texts, IMPORTANCE)
    window = min(IMATRIX_WINDOW, asked.full.header.context_length or IMATRIX_WINDOW)
    file = asked.named("imatrix", window).with_suffix(".gguf")
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        yield from imatrix_job(asked.full, texts, window, file)
    return read_imatrix(file)


def _sensitivity(asked: Asked, importance: ImportanceMatrix, maker: Maker) -> Job[Sensitivity]:
    file = asked.named(maker, importance.sha256, list(asked.types)).with_suffix(".json")
    if file.exists():
        return read_sensitivity(file)
    if maker == "gradient":
        windows = windows_of(asked.full, part_of(asked.texts, TABLE))
        found = yield from gradient_job(asked.full, importance, asked.types, windows, file.with_suffix(""))
    else:
        with divergence(asked.full, part_of(asked.texts, TABLE), SWAP_WINDOW, SWAP_WINDOWS) as swapping:
            found = yield from swap_job(swapping, importance, asked.types, asked.folder / "swaps.json")
        swapping.forget()
    found.write(file)
    return found


def divergence(
    full: LoadPlan, texts: Sequence[Text], window: int, windows: int, kept: Path | None = None
) -> Divergence:
    """From the full model, on so many windows of these texts, of each as many. kept: as Divergence has it."""
    asked = [(text.text, text.special) for text in texts]
    return Divergence(full, asked, window, -(-windows // len(texts)), kept or folder_of(full.stored) / "logits")


def part_of(texts: Sequence[Text], numbers: Collection[int]) -> list[Text]:
    """Some parts of these texts: each has pieces from everywhere."""
    every = max(PARTS, round(sum(len(text.text) for text in texts) / CHARACTERS))
    return [replace(text, text="".join(_pieces(text.text, every, numbers))) for text in texts]


def _pieces(text: str, every: int, numbers: Collection[int]) -> Iterator[str]:
    length = max(1, min(CHUNK, len(text) // every))
    for number, at in enumerate(range(0, len(text), length)):
        if number % every in numbers:
            yield text[at : at + length]
