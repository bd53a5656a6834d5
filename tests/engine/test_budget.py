"""The memory of several models together."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from filbert.core.errors import NoRoom
from filbert.core.machine import memory
from filbert.engine.budget import Budget, Held
from filbert.models.fit import Fit

MB = 1 << 20


def fit(own: int, weights: int = 0) -> Fit:
    return Fit(weights=weights * MB, repacked=0, kv_cache=own * MB, compute=0, prompt_cache=0, process=0)


@dataclass(eq=False)
class Loaded:
    """Children that have taken nothing yet of what they were promised."""

    name: str
    children: list[Held] = field(default_factory=list)

    def held(self) -> list[Held]:
        return self.children

    def start(self, budget: Budget, size: Fit, part: str = "text worker") -> None:
        with budget.room(self, part, size):
            self.children.append(Held(part, size, None))


def joined(budget: Budget, *names: str) -> list[Loaded]:
    models = [Loaded(name) for name in names]
    for model in models:
        budget.join(model)
    return models


def test_children_of_one_model_share_its_weights_and_nothing_else() -> None:
    budget = Budget(most=400 * MB)
    (model,) = joined(budget, "x")
    for part in ("text worker", "embedding worker", "scorer"):
        model.start(budget, fit(own=100, weights=100), part)
    with pytest.raises(NoRoom, match=r"x has no memory for its rerank worker.*0\.1 GB.*x's text worker.*x's scorer"):
        model.start(budget, fit(own=60, weights=100), "rerank worker")


def test_a_second_model_brings_its_own_weights() -> None:
    budget = Budget(most=300 * MB)
    first, second = joined(budget, "first", "second")
    first.start(budget, fit(own=100, weights=100))
    with pytest.raises(NoRoom, match=r"second has no memory.*first's text worker"):
        second.start(budget, fit(own=50, weights=100))
    second.start(budget, fit(own=50, weights=50))


def test_the_first_child_of_all_was_checked_when_its_model_was_planned() -> None:
    budget = Budget(most=1)
    (model,) = joined(budget, "x")
    model.start(budget, fit(own=100))
    assert model.children


def test_what_is_idle_is_unloaded_until_the_child_fits() -> None:
    idle = [Loaded("a"), Loaded("b"), Loaded("c")]

    def reclaim() -> bool:
        return bool(idle) and idle.pop(0).children.clear() is None

    budget = Budget(300 * MB, lambda: 0, reclaim)
    for model in list(idle):
        budget.join(model)
        model.start(budget, fit(own=100))
    (coming,) = joined(budget, "coming")
    coming.start(budget, fit(own=150))
    assert [model.name for model in idle] == ["c"]


def test_a_model_is_planned_with_what_idle_ones_would_give_back() -> None:
    budget = Budget(300 * MB, reclaimable=lambda: 70 * MB)
    (model,) = joined(budget, "x")
    assert budget.memory().available == 370 * MB
    model.start(budget, fit(own=100, weights=100))
    assert (budget.memory().total, budget.memory().available) == (300 * MB, 170 * MB)


def test_memory_that_a_child_was_promised_is_not_free_before_it_takes_it() -> None:
    budget = Budget()
    (model,) = joined(budget, "x")
    half = memory().available // 2 // MB
    model.start(budget, fit(own=half))
    assert budget.memory().available < memory().available - (half - 512) * MB
