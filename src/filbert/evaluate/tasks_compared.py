"""A model and its base on the same tasks: what only one of them answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from filbert.evaluate.kept_runs import items_of
from filbert.evaluate.result import TaskResult
from filbert.report.measurement import Measurement
from filbert.report.statistics import RightAndWrong, difference, mcnemar, paired_bootstrap

HEAD = ("task", "metric", "base", "compressed", "change", "95 %", "only base", "only compressed", "p", "n")
NOTE = "Only base, only compressed: answers that this one alone has right. p: McNemar's test of the two."


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange(Measurement):
    """value: the model's share of right answers less its base's; the interval draws the same items for both. answers:
    the base is the first."""

    task: str
    metric: str
    base_share: float
    share: float
    answers: RightAndWrong

    def cells(self) -> Sequence[str]:
        low, high = self.interval
        only = (str(self.answers.only_first), str(self.answers.only_second))
        return (
            *(self.task, self.metric, f"{self.base_share:.4f}", f"{self.share:.4f}", f"{self.value:+.4f}"),
            *(f"{low:+.4f} to {high:+.4f}", *only, f"{self.answers.p:.3f}", str(self.n)),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def changes(results: Sequence[TaskResult], of_base: Sequence[TaskResult], base: str, command: str) -> list[TaskChange]:
    """Of each task and each share of right answers. command: what makes them again."""
    return [
        change for result, its in zip(results, of_base, strict=True) for change in _changes(result, its, base, command)
    ]


def _changes(result: TaskResult, of_base: TaskResult, base: str, command: str) -> Iterator[TaskChange]:
    rows, base_rows = items_of(result.run), items_of(of_base.run)
    for metric in result.metrics:
        if metric.name not in ("acc", "acc_norm"):
            continue
        right, base_right = (np.array([_right(row, metric.name) for row in each]) for each in (rows, base_rows))
        yield TaskChange(
            value=float(right.mean() - base_right.mean()),
            interval=paired_bootstrap(difference, base_right, right),
            against=f"{base} on {metric.against}",
            n=len(rows),
            made_by=replace(metric.made_by, command=command),
            task=result.task,
            metric=metric.name,
            base_share=float(base_right.mean()),
            share=float(right.mean()),
            answers=mcnemar(base_right, right),
        )


def _right(row: dict[str, Any], metric: str) -> bool:
    if metric == "acc_norm":
        return row["chosen_norm"] is not None and bool(row["chosen_norm"] == row["gold"])
    return bool(row["right"])
