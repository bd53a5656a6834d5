"""What a task's items come to: the field's metrics by lm-evaluation-harness's definitions, with their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filbert.engine.scorer import Scored
from filbert.evaluate.items import Item
from filbert.evaluate.task import Task
from filbert.report.measurement import TWO_SIDED_95, Named, Provenance, Result, named, now
from filbert.report.statistics import standard_error

COLUMNS = {
    "index": "int64",
    "gold": "int64",
    "chosen": "int64",
    "chosen_norm": "int64",
    "right": "bool",
    "loglikelihoods": "float64[]",
    "greedy": "bool[]",
    "tokens": "int64[]",
    "choices": "string[]",
    "question": "string",
    "cut": "bool",
    "problem": "string",
}


@dataclass(frozen=True, slots=True)
class ItemResult:
    """chosen, chosen_norm: the likeliest choice, and the one that is likeliest for its length in characters; None where
    an item has no numbers. cut: its prompt lost its beginning, since it is longer than the context."""

    item: Item
    scored: Sequence[Scored]
    chosen: int | None
    chosen_norm: int | None
    cut: bool
    problem: str

    def is_right(self, metric: str) -> bool:
        if self.item.choices:
            chosen = self.chosen if metric == "acc" else self.chosen_norm
            return chosen is not None and chosen == self.item.gold
        return not self.problem and self.scored[0].greedy

    def to_row(self) -> Mapping[str, Any]:
        return {
            "index": self.item.index,
            "gold": self.item.gold,
            "chosen": self.chosen,
            "chosen_norm": self.chosen_norm,
            "right": self.is_right("acc"),
            "loglikelihoods": [one.loglikelihood for one in self.scored],
            "greedy": [one.greedy for one in self.scored],
            "tokens": [one.tokens for one in self.scored],
            "choices": self.item.choices or [ending for _, ending in self.item.requests],
            "question": self.item.requests[0][0] if self.item.requests else "",
            "cut": self.cut,
            "problem": self.problem,
        }


def graded(item: Item, scored: Sequence[Scored], cut: bool) -> ItemResult:
    values = [one.loglikelihood for one in scored]
    numbers = [value for value in values if value is not None]
    problem = item.problem or ("A choice gave no number (NaN)." if len(numbers) < len(values) else "")
    if not numbers or len(numbers) < len(values) or not item.choices:
        return ItemResult(item, scored, None, None, cut, problem)
    lengths = np.array([max(1, len(choice)) for choice in item.choices])
    chosen, norm = int(np.argmax(numbers)), int(np.argmax(np.array(numbers) / lengths))
    return ItemResult(item, scored, chosen, norm, cut, problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Named):
    """A share from 0 to 1, or a perplexity. Items without numbers count as wrong, as in lm-eval, and are told."""

    standard_error: float


@dataclass(frozen=True, slots=True)
class TaskResult:
    """run: by which it is shown again; n_cut: prompts that lost their beginning."""

    task: str
    version: str
    run: str
    metrics: tuple[Metric, ...]
    n_cut: int

    def metric(self, name: str) -> Metric | None:
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_result(self, settings: str) -> Result:
        metrics = tuple(named(metric, metric.name, metric.unit) for metric in self.metrics)
        return Result(kind="task", about=self.task, settings=settings, run=self.run, time=now(), measurements=metrics)


def result_of(
    task: Task, rows: Sequence[ItemResult], total: int, origin: str, made_by: Provenance, run: str
) -> TaskResult:
    against = f"{task.name}, {task.split}, {len(rows)} of {total} items of {origin}"
    metrics = [_metric(name, rows, against, made_by) for name in task.metrics]
    return TaskResult(task.name, task.version, run, tuple(metrics), sum(row.cut for row in rows))


def _metric(name: str, rows: Sequence[ItemResult], against: str, made_by: Provenance) -> Metric:
    n_invalid = sum(bool(row.problem) for row in rows)
    if name == "perplexity":
        values = np.array([row.scored[0].loglikelihood for row in rows if not row.problem], float)
        value, error = math.exp(-values.mean()), standard_error(values)
        low, high = (value * math.exp(sign * TWO_SIDED_95 * error) for sign in (-1, 1))
        error *= value
    else:
        values = np.array([row.is_right(name) for row in rows], float)
        value, error = float(values.mean()), standard_error(values)
        low, high = max(0.0, value - TWO_SIDED_95 * error), min(1.0, value + TWO_SIDED_95 * error)
    return Metric(
        name=name,
        unit="" if name == "perplexity" else "share",
        value=value,
        interval=(low, high),
        against=against,
        n=len(rows) - n_invalid,
        n_invalid=n_invalid,
        standard_error=error,
        made_by=made_by,
    )
