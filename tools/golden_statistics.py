"""Write tests/golden/statistics.json: what scipy and statsmodels say of small samples. Needs both, in an environment of
its own: `python tools/golden_statistics.py > tests/golden/statistics.json`."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

random = np.random.default_rng(7)
SAMPLES = [
    (random.lognormal(1, 1, 40).round(3), random.lognormal(1.3, 1, 55).round(3)),
    (random.integers(0, 6, 30).astype(float), random.integers(1, 6, 24).astype(float)),  # many ties
    (np.arange(5.0), np.arange(10.0, 17.0)),  # apart
    (np.array([1.0, 2, 2, 3]), np.array([2.0, 2, 3, 3])),
]
TABLES = [(1, 8), (30, 12), (5, 5), (0, 0), (0, 3), (200, 251)]


def two_samples(first: np.ndarray, second: np.ndarray) -> dict[str, object]:
    ranks = stats.mannwhitneyu(first, second, alternative="two-sided", method="asymptotic", use_continuity=True)
    return {
        "first": first.tolist(),
        "second": second.tolist(),
        "standard_error": float(stats.sem(first)),
        "u": float(ranks.statistic),
        "p": float(ranks.pvalue),
        "first_above": float(stats.ks_2samp(first, second, alternative="greater").statistic),
        "second_above": float(stats.ks_2samp(first, second, alternative="less").statistic),
    }


def interval(seed: int) -> dict[str, object]:
    values = SAMPLES[0][0]
    found = stats.bootstrap((values,), np.median, method="percentile", n_resamples=50_000, rng=seed)
    return {"values": values.tolist(), "median": list(map(float, found.confidence_interval))}


print(
    json.dumps(
        {
            "made_by": {
                "command": "python tools/golden_statistics.py",
                "versions": f"scipy {version('scipy')}, statsmodels {version('statsmodels')}",
            },
            "two_samples": [two_samples(*each) for each in SAMPLES],
            "bootstrap": interval(1),
            "mcnemar": [
                {"only_first": b, "only_second": c, "p": float(mcnemar([[9, b], [c, 4]], exact=True).pvalue)}
                for b, c in TABLES
            ],
        },
        indent=1,
    )
)
