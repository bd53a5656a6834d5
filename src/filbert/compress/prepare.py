"""What all sizes of a model are made from: an importance matrix and a sensitivity, measured once and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filbert.compress.compress_options import Maker
from filbert.compress.extra import TO_TRAIN, missing, need_extra
from filbert.compress.gradient import gradient_job, windows_of
from filbert.compress.imatrix import ImportanceMatrix, Text, imatrix_job, read_imatrix
from filbert.compress.optimise import Table
from filbert.compress.plan import Source
from filbert.compress.sensitivity import Sensitivity, read_sensitivity
from filbert.compress.swap import swap_job
from filbert.core import paths
from filbert.core.errors import BadInput
from filbert.core.jobs import Job
from filbert.engine import capi_layout
from filbert.engine.divergence import Divergence
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan

TYPES = (
    *("Q3_K", "IQ3_S", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K", "Q4_1", "Q5_0", "Q5_K", "Q5_1", "Q6_K", "Q8_0"),
    "MXFP4",
)
SMALL_TYPES = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K", "IQ3_XXS")  # slow to make, and of use to few
CHUNK = 2000  # characters that stay together when a text is shortened
IMATRIX_CHARACTERS, IMATRIX_WINDOW = 70_000, 512
SWAP_CHARACTERS, SWAP_WINDOW, SWAP_WINDOWS = 60_000, 192, 1  # of each text: some thousand tokens in all


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
        return folder_of(self.full)

    def named(self, what: str, *made_of: object) -> Path:
        """A file for what is made of these, the texts and the model."""
        asked = [[(text.text, text.special) for text in self.texts], capi_layout.VERSION, *made_of]
        return self.folder / f"{what}-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"


def folder_of(full: LoadPlan) -> Path:
    """Of what was measured of a model."""
    return paths.compressions_folder() / full.stored.sha256[:16]


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
    texts = shortened(asked.texts, IMATRIX_CHARACTERS, 0)
    window = min(IMATRIX_WINDOW, asked.full.header.context_length or IMATRIX_WINDOW)
    file = asked.named("imatrix", window, IMATRIX_CHARACTERS).with_suffix(".gguf")
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        yield from imatrix_job(asked.full, texts, window, file)
    return read_imatrix(file)


def _sensitivity(asked: Asked, importance: ImportanceMatrix, maker: Maker) -> Job[Sensitivity]:
    file = asked.named(maker, importance.sha256, list(asked.types)).with_suffix(".json")
    if file.exists():
        return read_sensitivity(file)
    if maker == "gradient":
        windows = windows_of(asked.full, asked.texts)
        found = yield from gradient_job(asked.full, importance, asked.types, windows, file.with_suffix(""))
    else:
        texts = [(text.text, text.special) for text in shortened(asked.texts, SWAP_CHARACTERS, 1)]
        kept = asked.folder / "logits"
        with Divergence(asked.full, texts, SWAP_WINDOW, SWAP_WINDOWS, kept) as divergence:
            found = yield from swap_job(divergence, importance, asked.types, asked.folder / "swaps.json")
        shutil.rmtree(kept, ignore_errors=True)
    found.write(file)
    return found


def shortened(texts: Sequence[Text], characters: int, start: int) -> list[Text]:
    """Of all texts together so many at most, pieces from everywhere; from another start, others."""
    every = max(1, round(sum(len(text.text) for text in texts) / characters))
    return [replace(text, text="".join(_chunks(text.text)[start % every :: every])) for text in texts]


def _chunks(text: str) -> list[str]:
    return [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
