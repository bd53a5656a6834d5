"""What a type leaves continuous: of each block of weights the scale and the minimum, numbers of 16 bits.

A weight is scale · u + minimum · v, and the codes within the block are u and v. They are found by reading the block
with the scale 1 and the minimum 0, and the other way round, so that no type's codes are taken apart here. The layouts
are ggml's (ggml-common.h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.gguf_write import TYPE_NUMBERS

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
SCALES = {  # where a block has its scale, and its minimum
    "Q4_0": (0, None),
    "Q4_1": (0, 2),
    "Q5_0": (0, None),
    "Q5_1": (0, 2),
    "Q8_0": (0, None),
    "Q2_K": (80, 82),
    "Q3_K": (108, None),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208, None),
    "IQ4_NL": (0, None),
    "IQ4_XS": (0, None),
    "IQ3_S": (0, None),
    "IQ3_XXS": (0, None),
    "IQ2_S": (0, None),
    "IQ2_XS": (0, None),
    "IQ2_XXS": (0, None),
}
LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a tensor. scale, minimum: of shape (blocks,), the latter None where the type has none; u, v: of
    shape (blocks, weights in one), v of one column where it is the same throughout."""

    type: str
    data: Bytes
    scale: Floats
    minimum: Floats | None
    u: Floats
    v: Floats | None

    def written(self, scale: Floats, minimum: Floats | None) -> Bytes:
        """The bytes with other scales and minima, rounded to 16 bits."""
        at, of_minimum = SCALES[self.type]
        data = self.data.copy()
        data[:, at : at + 2] = _half_bytes(scale)
        if of_minimum is not None and minimum is not None:
            data[:, of_minimum : of_minimum + 2] = _half_bytes(minimum)
        return data.reshape(-1)


def blocks(data: Bytes, kind: str) -> Blocks:
    """Raises KeyError for a type whose scales are not numbers of 16 bits."""
    at, of_minimum = SCALES[kind]
    data = data.reshape(-1, TENSOR_TYPES[TYPE_NUMBERS[kind]].size_bytes)
    scale = _halves(data, at)
    u = _read(data, kind, {at: 1.0} | ({of_minimum: 0.0} if of_minimum is not None else {}))
    if of_minimum is None:
        return Blocks(kind, data, scale, None, u, None)
    v = _read(data, kind, {at: 0.0, of_minimum: 1.0})
    v = v[:, :1] if (v == v[:, :1]).all() else v
    return Blocks(kind, data, scale, _halves(data, of_minimum), u, v)


def _read(data: Bytes, kind: str, said: dict[int, float]) -> Floats:
    import gguf  # with torch, in the same extra

    changed = data.copy()
    for at, value in said.items():
        changed[:, at : at + 2] = _half_bytes(np.full(len(data), value, np.float32))
    found = gguf.quants.dequantize(changed.reshape(-1), gguf.GGMLQuantizationType[kind])
    return np.ascontiguousarray(found, np.float32).reshape(len(data), -1)


def _halves(data: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(data[:, at : at + 2]).view(np.float16).astype(np.float32)[:, 0]


def _half_bytes(values: Floats) -> Bytes:
    halves = np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
    return halves[:, None].view(np.uint8)
