"""Blocks as scales and minima: against gguf's own reading, for every type."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from filbert.compress.blocks import SCALES, blocks
from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.gguf_write import TYPE_NUMBERS

N = 50


def some_blocks(kind: str) -> np.ndarray:
    """Any bytes are codes, but not any are numbers of 16 bits."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (N, TENSOR_TYPES[TYPE_NUMBERS[kind]].size_bytes), np.uint8)
    for at in SCALES[kind]:
        if at is not None:
            data[:, at : at + 2] = rng.uniform(-2, 2, N).astype(np.float16)[:, None].view(np.uint8)
    return data.reshape(-1)


def numbers(data: np.ndarray, kind: str) -> np.ndarray:
    return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]).reshape(N, -1)


@pytest.mark.parametrize("kind", SCALES)
def test_a_weight_is_scale_times_u_and_minimum_times_v(kind: str) -> None:
    data = some_blocks(kind)
    found = blocks(data, kind)
    ours = found.scale[:, None] * found.u
    if found.minimum is not None:
        assert found.v is not None
        ours = ours + found.minimum[:, None] * found.v
    assert ours == pytest.approx(numbers(data, kind), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", SCALES)
def test_other_scales_change_the_numbers_and_nothing_else(kind: str) -> None:
    data = some_blocks(kind)
    found = blocks(data, kind)
    assert (found.written(found.scale, found.minimum) == data).all()
    double = found.written(2 * found.scale, None if found.minimum is None else 2 * found.minimum)
    assert numbers(double, kind) == pytest.approx(2 * numbers(data, kind), rel=1e-3, abs=1e-4)
    assert (double != data).sum() <= 4 * N


def test_a_scale_that_16_bits_cannot_hold_is_the_largest_they_can() -> None:
    found = blocks(some_blocks("Q4_0"), "Q4_0")
    data = found.written(np.full(N, 1e6, np.float32), None)
    assert np.isfinite(numbers(data, "Q4_0")).all()
