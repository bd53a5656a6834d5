from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from filbert.engine.likelihood import pick


def reference(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=1)[:, None]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 3000), st.floats(0, 1000))
def test_log_likelihoods_are_those_of_a_softmax_in_double_precision(
    seed: int, n: int, width: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((n, width)) * scale).astype(np.float32)
    rows, targets = random.integers(0, n, 20), random.integers(0, width, 20).astype(np.int32)
    found, likeliest = pick(logits, rows, targets)
    wanted = reference(logits)[rows, targets]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5)
    assert likeliest.tolist() == (logits[rows, targets] == logits.max(axis=1)[rows]).tolist()


def test_a_row_with_a_nan_gives_no_number_and_leaves_the_others_alone() -> None:
    logits = np.zeros((3, 8), np.float32)
    logits[1, 5] = np.nan
    found, likeliest = pick(logits, np.arange(3), np.zeros(3, np.int32))
    assert np.isnan(found).tolist() == [False, True, False]
    assert likeliest.tolist() == [True, False, True]
