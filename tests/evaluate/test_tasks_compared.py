"""A model and its base on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import make_tiny
from filbert.core.jobs import finish
from filbert.engine.scorer import Scorer
from filbert.evaluate.items import items
from filbert.evaluate.kept_runs import items_of
from filbert.evaluate.result import TaskResult
from filbert.evaluate.run import evaluate_job
from filbert.evaluate.task import load
from filbert.evaluate.tasks_compared import changes
from filbert.models.store import in_place
from filbert.report.statistics import mcnemar

WORDS = ["red", "green", "blue", "old", "new", "tall", "wide", "warm", "cold", "round"]
DOCUMENTS = [
    {"goal": f"Number {i} is", "sol1": f"{WORDS[i % 10]} {i}.", "sol2": f"{WORDS[i * 7 % 10]}.", "label": i % 2}
    for i in range(60)
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(tmp_path / "home"))


def evaluated(path: Path, documents: Sequence[dict[str, Any]] = DOCUMENTS) -> TaskResult:
    task = load("piqa")
    with Scorer(in_place(path), threads=1) as scorer:
        return finish(evaluate_job(scorer, task, items(task, documents), len(documents), "here", "filbert evaluate"))


def test_each_metric_is_compared_item_by_item(tmp_path: Path) -> None:
    base = evaluated(make_tiny.dense(tmp_path / "base.gguf"))
    small = evaluated(make_tiny.quantised(tmp_path / "small.gguf", "Q4_0"))
    assert base.run != small.run, "the same questions to another model are another run"
    acc, norm = changes([small], [base], "base.gguf", "filbert fidelity …")
    assert (acc.metric, norm.metric) == ("acc", "acc_norm")
    for change, chosen in ((acc, "chosen"), (norm, "chosen_norm")):
        right = [np.array([row[chosen] == row["gold"] for row in items_of(run.run)]) for run in (base, small)]
        assert right[0].tolist() != right[1].tolist(), "nothing to compare: take other documents"
        assert change.answers == mcnemar(*right)
        assert (change.base_share, change.share) == (right[0].mean(), right[1].mean())
        assert change.value == pytest.approx(change.share - change.base_share)
        assert change.interval[0] <= change.value <= change.interval[1]
        assert change.n == len(DOCUMENTS)
        assert change.made_by.command == "filbert fidelity …"
        assert change.against.startswith("base.gguf on piqa")


def test_items_without_numbers_are_right_for_neither(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "base.gguf")
    documents = [*DOCUMENTS, {"goal": "No choices", "label": 0}]
    result = evaluated(path, documents)
    for change in changes([result], [result], "base.gguf", "again"):
        assert (change.value, change.answers.only_first, change.answers.only_second, change.answers.p) == (0, 0, 0, 1)
        assert (change.n, change.interval) == (61, (0, 0))
        assert change.share == result.metric(change.metric).value  # type: ignore[union-attr]
