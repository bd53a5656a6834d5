"""Results in the shape that lm-evaluation-harness 0.4 writes: `results` by task, metrics as "acc,none"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from filbert.evaluate.result import TaskResult


def harness_json(found: Mapping[str, Sequence[TaskResult]]) -> Mapping[str, Any]:
    """Of one model as lm-eval has it; of several an object of such by the model's name."""
    each = {model: _of_one(model, results) for model, results in found.items()}
    return each if len(each) > 1 else next(iter(each.values()))


def _of_one(model: str, results: Sequence[TaskResult]) -> Mapping[str, Any]:
    made_by = results[0].metrics[0].made_by
    return {
        "results": {result.task: _metrics(result) for result in results},
        "versions": {result.task: result.version for result in results},
        "n-samples": {result.task: {"effective": _n(result)} for result in results},
        "model_source": "filbert",
        "model_name": model,
        "config": {"model": model, "model_sha256": made_by.model_sha256, "command": made_by.command},
        "filbert": {"runs": {result.task: result.run for result in results}, "versions": made_by.versions},
    }


def _metrics(result: TaskResult) -> Mapping[str, Any]:
    told: dict[str, Any] = {"alias": result.task}
    for metric in result.metrics:
        told[f"{metric.name},none"] = metric.value
        told[f"{metric.name}_stderr,none"] = metric.standard_error
    return told


def _n(result: TaskResult) -> int:
    return result.metrics[0].n + result.metrics[0].n_invalid
