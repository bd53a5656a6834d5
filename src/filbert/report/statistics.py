"""How sure a number is, and whether two models differ: pure functions of arrays, seeded where they draw.

n, m: items of the first and the second sample. An interval holds the true value in 95 of 100 measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from filbert.core.errors import BadInput
from filbert.report.measurement import TWO_SIDED_95

Numbers = NDArray[np.float64]
Interval = tuple[float, float]
Statistic = Callable[[Numbers], Numbers]  # of each row of an array

RESAMPLES = 10_000
AT_ONCE = 1 << 20  # numbers that are drawn in one go: 8 MB


def standard_error(values: ArrayLike) -> float:
    """Of the mean, by the sample's standard deviation (n - 1), as lm-evaluation-harness has it
    (`lm_eval/api/metrics.py`, mean_stderr). NaN for less than two values: one says nothing of its error."""
    sample = np.asarray(values, np.float64)
    return float(sample.std(ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else math.nan


def mean_interval(values: ArrayLike) -> Interval:
    """95 % of the mean of a few values that are about normal, by Student's t. NaN for less than two."""
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return math.nan, math.nan
    middle, margin = float(sample.mean()), _student_t(len(sample) - 1) * standard_error(sample)
    return middle - margin, middle + margin


def _student_t(freedom: int) -> float:
    """Beyond which, to either side, 5 % of Student's distribution lie. Halved, by the share within (Abramowitz & Stegun
    1964, 26.7.3 and 26.7.4)."""

    def within(t: float) -> float:
        angle = math.atan(t / math.sqrt(freedom))
        square, odd = math.cos(angle) ** 2, freedom % 2
        terms = [math.cos(angle) if odd else 1.0] if freedom > 1 else []
        for k in range(2 + odd, freedom - 1, 2):
            terms.append(terms[-1] * square * (k - 1) / k)
        series = math.sin(angle) * math.fsum(terms)
        return 2 / math.pi * (angle + series) if odd else series

    low, high = 0.0, 13.0  # for one degree of freedom it is 12.706
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) > 0.95 else (middle, high)
    return low


def mean(rows: Numbers) -> Numbers:
    """As a Statistic."""
    return np.asarray(rows.mean(axis=-1))


def median(rows: Numbers) -> Numbers:
    return np.asarray(np.median(rows, axis=-1))


def bootstrap(values: ArrayLike, statistic: Statistic = mean, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """95 % of a statistic over items, by percentiles (Efron & Tibshirani 1993, An Introduction to the Bootstrap, 13):
    items are drawn again with replacement, as many as there are. Somewhat narrow for less than about 30 items."""
    return paired_bootstrap(statistic, values, resamples=resamples, seed=seed)


def paired_bootstrap(
    statistic: Callable[..., Numbers], *samples: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """95 % of a statistic of several measurements of the same items: each draw takes the same items of all samples, so
    that what makes an item hard for both models cancels (Koehn 2004, W04-3250; Efron & Tibshirani 1993, ch. 8).
    statistic: from an array a sample, shape (draws, n), to one number a draw. Raises BadInput for samples of different
    length, or without items."""
    arrays = [np.asarray(sample, np.float64) for sample in samples]
    n = len(arrays[0])
    if n == 0 or any(array.shape != (n,) for array in arrays):
        raise BadInput(
            f"Samples of {', '.join(str(len(array)) for array in arrays)} items cannot be compared item by item.",
            do="Pass as many of each, and at least one.",
        )
    random = np.random.default_rng(seed)
    step = max(1, AT_ONCE // n)
    drawn = [random.integers(n, size=(min(step, resamples - done), n)) for done in range(0, resamples, step)]
    found = np.concatenate([statistic(*(array[items] for array in arrays)) for items in drawn])
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def difference(first: Numbers, second: Numbers) -> Numbers:
    """Of the means: of the second beyond the first."""
    return np.asarray(second.mean(axis=-1) - first.mean(axis=-1))


def ratio(first: Numbers, second: Numbers) -> Numbers:
    """Of the means: of the second to the first."""
    return np.asarray(second.mean(axis=-1) / first.mean(axis=-1))


@dataclass(frozen=True, slots=True)
class Distributions:
    """Two empirical distribution functions: the share of each sample that is at most so large, at each value that
    occurs. first_above: by how much the first's is above the second's at most; 0 where it nowhere is."""

    values: Numbers
    first: Numbers
    second: Numbers
    first_above: float
    second_above: float

    @property
    def first_is_lower(self) -> bool:
        """Whether the first sample is stochastically lower: at no value is its share smaller, and at one it is larger
        (Mann & Whitney 1947)."""
        return self.second_above == 0 < self.first_above

    @property
    def second_is_lower(self) -> bool:
        return self.first_above == 0 < self.second_above


def distributions(first: ArrayLike, second: ArrayLike) -> Distributions:
    """The largest distances are the one-sided Kolmogorov-Smirnov statistics D+ and D-."""
    one, other = map(np.sort, _two_samples(first, second))
    values = np.unique(np.concatenate([one, other]))
    counts = [np.searchsorted(sample, values, side="right") for sample in (one, other)]
    # Whole numbers, so that equal shares of samples of different sizes are equal.
    gap = counts[0] * len(other) - counts[1] * len(one)
    scale = len(one) * len(other)
    return Distributions(
        values,
        counts[0] / len(one),
        counts[1] / len(other),
        first_above=max(0, int(gap.max())) / scale,
        second_above=max(0, int(-gap.min())) / scale,
    )


def _two_samples(first: ArrayLike, second: ArrayLike) -> tuple[Numbers, Numbers]:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one) == 0 or len(other) == 0:
        raise BadInput("There is nothing to compare.", why="A sample has no items.", do="Pass at least one of each.")
    return one, other


@dataclass(frozen=True, slots=True)
class RankTest:
    """Mann and Whitney's. u: pairs, of one item of each sample, in which the first's value is larger, an equal pair
    counting half; p: two-sided, of a u so far from what equal distributions give; superiority: u / (n m), the chance
    that an item of the first has the larger value."""

    u: float
    p: float
    superiority: float
    interval: Interval


def mann_whitney(first: ArrayLike, second: ArrayLike) -> RankTest:
    """By the normal approximation, with its corrections for ties and continuity (Mann & Whitney 1947; Lehmann 1975,
    Nonparametrics, 1.4). The interval of the superiority is Newcombe's fifth (Statistics in Medicine 25, 2006), of
    Hanley and McNeil's variance at the limit itself, which stays within 0 and 1. Both take the samples as independent;
    two measurements of the same items are not, and `paired_bootstrap` is the sharper test of those."""
    one, other = _two_samples(first, second)
    n, m = len(one), len(other)
    values, where, counts = np.unique(np.concatenate([one, other]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    ties = float((counts.astype(np.float64) ** 3 - counts).sum())
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    distance = max(0.0, abs(u - n * m / 2) - 0.5)
    p = math.erfc(distance / math.sqrt(2 * variance)) if len(values) > 1 else 1.0
    return RankTest(u, p, u / (n * m), _superiority_interval(u / (n * m), n, m))


def _superiority_interval(share: float, n: int, m: int) -> Interval:
    def variance(s: float) -> float:
        middle = (n + m) / 2 - 1
        return s * (1 - s) / (n * m) * (1 + middle * (1 - s) / (2 - s) + middle * s / (1 + s))

    def limit(outside: float) -> float:
        """Where the share is just so many standard errors away: between it and 0 or 1, by halving."""
        inside = share
        for _ in range(60):
            middle = (inside + outside) / 2
            if (share - middle) ** 2 <= TWO_SIDED_95**2 * variance(middle):
                inside = middle
            else:
                outside = middle
        return inside

    return limit(0.0), limit(1.0)


@dataclass(frozen=True, slots=True)
class RightAndWrong:
    """McNemar's test. only_first, only_second: items that only this model has right; p: two-sided, of a split so uneven
    where neither is better."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> RightAndWrong:
    """Two models, right or wrong on the same items: those on which they agree say nothing of which is better, the rest
    are a coin's throws (McNemar 1947; exact, by the binomial distribution)."""
    one, other = (np.asarray(sample, np.bool_) for sample in (first, second))
    if one.shape != other.shape:
        raise BadInput(
            f"{len(one)} and {len(other)} answers cannot be compared item by item.", do="Pass both models' on the same."
        )
    only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
    n = only_first + only_second
    ways = tail = 1  # to choose k of n, and k or fewer
    for k in range(min(only_first, only_second)):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return RightAndWrong(only_first, only_second, min(1.0, 2 * tail / 2**n))
