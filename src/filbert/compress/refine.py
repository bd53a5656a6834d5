"""A mix measured as it would run, and others of the same size beside it: the table takes losses to add up, and does not
know what a role's errors do together with those of others."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from filbert.compress.imatrix import Text
from filbert.compress.optimise import Table
from filbert.compress.plan import Plan
from filbert.compress.prepare import folder_of, shortened
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import role_of
from filbert.core.jobs import Job, Progress
from filbert.engine.divergence import Divergence
from filbert.engine.likelihood import Numbers
from filbert.engine.load_plan import LoadPlan
from filbert.models.store import in_place

CHARACTERS, WINDOW, WINDOWS = 60_000, 256, 2  # of each text, from other places than the table's
FACTORS = (1.5, 0.67)  # what a role's losses are taken to be more, or less
SURE = 2.0  # standard errors by which a mix must be better


@dataclass(frozen=True, slots=True)
class Refined:
    """foretold: by the table, of the first mix; measured: of the first, and of the one that was taken, on text that
    neither the table nor training saw. All in nats a token."""

    plan: Plan
    foretold: float
    first: float
    measured: float
    tried: int

    def __str__(self) -> str:
        found = f"Told by the table {self.foretold:.4f} nats a token, measured {self.first:.4f}"
        better = f"; the best of {self.tried} other mixes has {self.measured:.4f}" if self.tried else ""
        return f"{found}{better}."


def refined_job(
    table: Table, full: LoadPlan, made: Plan, texts: Sequence[Text], tries: int, how: Mapping[str, Any]
) -> Job[Refined]:
    """The best of so many mixes of the same size; stops when no role's losses, taken for more or for less, give a
    better one. how: as `plan` takes it. Raises as `Divergence` and `quantise_job` do."""
    kept = folder_of(full) / "logits"
    with unseen(full, texts, kept) as divergence, tempfile.TemporaryDirectory() as folder:
        best, found = made, (yield from _measured(divergence, made, Path(folder)))
        first, tried = float(found.mean()), 0
        for changed in _changed(table):
            if tried == tries:
                break
            other = changed.of_size(made.size_bytes, made.recipe.name, **how)
            if _types(other) == _types(best):
                continue
            yield Progress("other mixes", tried, tries, "mixes")
            tried += 1
            theirs = yield from _measured(divergence, other, Path(folder))
            if is_better(theirs, found):
                best, found = other, theirs
    shutil.rmtree(kept, ignore_errors=True)
    return Refined(best, table.loss(made), first, float(found.mean()), tried)


def unseen(full: LoadPlan, texts: Sequence[Text], kept: Path) -> Divergence:
    """From the full model, on parts of the texts that the table does not read. kept: as Divergence has it."""
    asked = [(text.text, text.special) for text in shortened(texts, CHARACTERS, 2)]
    return Divergence(full, asked, WINDOW, WINDOWS, kept)


def _changed(table: Table) -> Iterator[Table]:
    """By roles, those first that have the most weights."""
    counts: Counter[str] = Counter()
    for name in table.names:
        counts[role_of(name)] += table.source.tensors[name][0].count
    for role, _ in counts.most_common():
        for factor in FACTORS:
            losses = {
                name: {kind: loss * (factor if role_of(name) == role else 1) for kind, loss in each.items()}
                for name, each in table.sensitivity.losses.items()
            }
            yield replace(table, sensitivity=replace(table.sensitivity, losses=losses))


def _measured(divergence: Divergence, made: Plan, folder: Path) -> Job[Numbers]:
    """KL divergence of each window."""
    file = yield from quantise_job(made, folder / "mix.gguf")
    found = yield from divergence.means_of(LoadPlan(in_place(file), divergence.full.options))
    file.unlink()
    return found


def is_better(theirs: Numbers, ours: Numbers) -> bool:
    """By more than chance: windows are compared one by one."""
    apart = theirs - ours
    return bool(apart.mean() < -SURE * apart.std(ddof=1) / np.sqrt(len(apart)))


def _types(made: Plan) -> list[str]:
    return [each.type for each in made.tensors]
