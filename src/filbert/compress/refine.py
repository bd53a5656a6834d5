"""A mix measured as it would run, and others of the same size beside it: the table takes losses to add up, and does not
know what a role's errors do together with those of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from filbert.compress.imatrix import Text
from filbert.compress.optimise import Table
from filbert.compress.plan import Plan
from filbert.compress.prepare import UNSEEN, divergence, part_of
from filbert.compress.recipe import role_of
from filbert.compress.search import tried
from filbert.core.jobs import Job, Progress
from filbert.engine.divergence import Divergence
from filbert.engine.likelihood import Numbers
from filbert.engine.load_plan import LoadPlan
from filbert.models.store import in_place

WINDOW, WINDOWS = 256, 10  # of all texts together; of each one at least
FACTORS = (1.5, 0.67)  # what a role's losses are taken to be more, or less
SURE = 2.0  # standard errors by which a mix must be better


@dataclass(frozen=True, slots=True)
class Refined:
    """foretold: by the table, of the first mix; measured: of the first, and of the one that was taken, on text that
    told nothing of it. All in nats a token."""

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
    with unseen(full, texts) as judge:
        best, found = made, (yield from _measured(judge, made))
        first, tried = float(found.mean()), 0
        for changed in _changed(table):
            if tried == tries:
                break
            other = changed.of_size(made.size_bytes, made.recipe.name, **how)
            if _types(other) == _types(best):
                continue
            yield Progress("other mixes", tried, tries, "mixes")
            tried += 1
            theirs = yield from _measured(judge, other)
            if is_better(theirs, found):
                best, found = other, theirs
    judge.forget()
    return Refined(best, table.loss(made), first, float(found.mean()), tried)


def unseen(full: LoadPlan, texts: Sequence[Text], kept: Path | None = None) -> Divergence:
    """From the full model, on a part of the texts that neither importance nor the table are told by. kept: as
    Divergence has it."""
    return divergence(full, part_of(texts, UNSEEN), WINDOW, WINDOWS, kept)


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


def _measured(judge: Divergence, made: Plan) -> Job[Numbers]:
    """KL divergence of each window."""
    return (yield from tried(made, lambda file: judge.means_of(LoadPlan(in_place(file), judge.full.options))))


def is_better(theirs: Numbers, ours: Numbers, sure: float = SURE) -> bool:
    """By more than chance: windows are compared one by one. sure: standard errors."""
    apart = theirs - ours
    return bool(apart.mean() < -sure * apart.std(ddof=1) / np.sqrt(len(apart)))


def _types(made: Plan) -> list[str]:
    return [each.type for each in made.tensors]
