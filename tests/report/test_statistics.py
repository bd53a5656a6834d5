"""Golden figures are scipy's and statsmodels'; what holds for all samples is told as laws."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filbert.core.errors import BadInput
from filbert.report.statistics import (
    bootstrap,
    difference,
    distributions,
    mann_whitney,
    mcnemar,
    mean_interval,
    median,
    paired_bootstrap,
    ratio,
    standard_error,
)

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/statistics.json").read_text("utf-8"))
whole = st.lists(st.integers(-6, 6), min_size=1, max_size=30)  # few values: many ties


@pytest.mark.parametrize("golden", GOLDEN["two_samples"], ids=range(len(GOLDEN["two_samples"])))
def test_two_samples_are_told_apart_as_scipy_does(golden: dict[str, object]) -> None:
    first, second = golden["first"], golden["second"]
    assert standard_error(first) == pytest.approx(golden["standard_error"], rel=1e-12)
    ranks = mann_whitney(first, second)
    assert (ranks.u, ranks.p) == pytest.approx((golden["u"], golden["p"]), rel=1e-12)
    found = distributions(first, second)
    assert (found.first_above, found.second_above) == pytest.approx(
        (golden["first_above"], golden["second_above"]), abs=1e-12
    )


@pytest.mark.parametrize("golden", GOLDEN["mcnemar"], ids=lambda each: f"{each['only_first']}-{each['only_second']}")
def test_right_and_wrong_are_told_apart_as_statsmodels_does(golden: dict[str, float]) -> None:
    only_first, only_second = int(golden["only_first"]), int(golden["only_second"])
    first = [True] * 9 + [True] * only_first + [False] * only_second
    second = [True] * 9 + [False] * only_first + [True] * only_second
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p == pytest.approx(golden["p"], rel=1e-12)


@pytest.mark.parametrize(
    ("n", "t"), [(2, 12.7062), (3, 4.3027), (4, 3.1824), (5, 2.7764), (10, 2.2622), (31, 2.0423), (101, 1.9840)]
)
def test_the_interval_of_a_mean_is_by_students_table(n: int, t: float) -> None:
    sample = 7 + np.arange(n) * 0.5
    low, high = mean_interval(sample)
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx((sample.mean(), t * standard_error(sample)), rel=1e-4)


def test_the_interval_of_a_mean_holds_the_true_one_as_often_as_it_says_also_of_five() -> None:
    random = np.random.default_rng(2)
    intervals = [mean_interval(random.normal(3, 2, 5)) for _ in range(4000)]
    assert np.mean([low < 3 < high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval() -> None:
    assert np.isnan(mean_interval([3.0])).all()


def test_a_bootstrap_gives_scipys_interval() -> None:
    golden = GOLDEN["bootstrap"]
    assert bootstrap(golden["values"], median, resamples=50_000) == pytest.approx(golden["median"], rel=0.02)


def test_a_bootstrap_holds_the_true_mean_about_as_often_as_it_says() -> None:
    """400 measurements of 60 items each: 95 % hold it, less a little since a percentile interval is narrow."""
    random = np.random.default_rng(3)
    intervals = [bootstrap(random.exponential(2, 60), resamples=500, seed=i) for i in range(400)]
    assert 0.90 <= sum(low <= 2 <= high for low, high in intervals) / 400 <= 0.98


def test_a_bootstrap_draws_the_same_again_with_the_same_seed_only() -> None:
    values = np.arange(30.0) ** 2
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_a_paired_bootstrap_sees_what_one_of_samples_apart_cannot() -> None:
    """Items differ by hundreds, the models by one."""
    random = np.random.default_rng(5)
    items = random.normal(0, 200, 80)
    first, second = items, items + 1 + random.normal(0, 0.5, 80)
    low, high = paired_bootstrap(difference, first, second)
    assert 0.8 < low < 1 < high < 1.2
    assert mann_whitney(first, second).p > 0.5


def test_a_ratio_of_the_same_samples_is_one_without_an_error() -> None:
    values = np.arange(1.0, 20)
    assert paired_bootstrap(ratio, values, values) == (1, 1)
    assert paired_bootstrap(ratio, values, 3 * values) == pytest.approx((3, 3))


def test_samples_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(BadInput, match="of 2, 3 items"):
        paired_bootstrap(difference, [1, 2], [1, 2, 3])
    with pytest.raises(BadInput, match="nothing to compare"):
        mann_whitney([], [1])
    with pytest.raises(BadInput, match="nothing to compare"):
        distributions([1], [])
    with pytest.raises(BadInput, match="2 and 1 answers"):
        mcnemar([True, False], [True])
    with pytest.raises(BadInput, match="of 0 items"):
        bootstrap([])


def test_one_value_says_nothing_of_its_error() -> None:
    assert math.isnan(standard_error([4.0]))


@given(whole, whole)
def test_mann_whitney_is_the_same_seen_from_the_other_side(first: list[int], second: list[int]) -> None:
    there, back = mann_whitney(first, second), mann_whitney(second, first)
    assert there.u + back.u == len(first) * len(second)
    assert there.p == pytest.approx(back.p) and 0 <= there.p <= 1
    low, high = there.interval
    assert 0 <= low <= there.superiority <= high <= 1
    assert back.interval == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(whole, whole)
def test_ranks_and_distributions_ask_only_which_value_is_larger(first: list[int], second: list[int]) -> None:
    bent = [[math.exp(value) - 3 for value in sample] for sample in (first, second)]
    assert mann_whitney(*bent) == mann_whitney(first, second)
    plain, curved = distributions(first, second), distributions(*bent)
    assert (curved.first_above, curved.second_above) == (plain.first_above, plain.second_above)
    assert (curved.first.tolist(), curved.second.tolist()) == (plain.first.tolist(), plain.second.tolist())


@given(whole, whole)
def test_superiority_is_the_share_of_pairs_that_are_larger(first: list[int], second: list[int]) -> None:
    larger = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in first for b in second)
    assert mann_whitney(first, second).u == larger


@given(whole, st.integers(1, 5))
def test_a_sample_is_stochastically_lower_than_itself_moved_up(sample: list[int], by: int) -> None:
    found = distributions(sample, [value + by for value in sample])
    assert found.first_is_lower and not found.second_is_lower
    same = distributions(sample, sample * 2)
    assert not same.first_is_lower and not same.second_is_lower


def test_curves_that_cross_are_lower_neither_way() -> None:
    found = distributions([1, 9], [2, 3])
    assert (found.first_above, found.second_above) == (0.5, 0.5)
    assert not found.first_is_lower and not found.second_is_lower
    assert found.values.tolist() == [1, 2, 3, 9]
    assert (found.first.tolist(), found.second.tolist()) == ([0.5, 0.5, 0.5, 1], [0, 0.5, 1, 1])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_the_same_seen_from_the_other_side(answers: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in answers], [b for _, b in answers]
    there, back = mcnemar(first, second), mcnemar(second, first)
    assert there.p == back.p and 0 < there.p <= 1
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)


@settings(max_examples=25)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(-50, 50))
def test_an_interval_of_a_mean_moves_with_its_items(values: list[float], by: float) -> None:
    low, high = bootstrap(values, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap([value + by for value in values], resamples=200) == pytest.approx((low + by, high + by), abs=1e-6)
