"""What a model says of a window of a text, kept on disk so that others can be compared with it later.

Of each place the log-likelihoods of all tokens, in 32 bits. In 16, even in equal steps of a nat, a few likely tokens
round by so much that a KL divergence of 0.01 is told wrong in its third digit. Tokens that are less likely than
exp(-32) count as just so likely: no two models differ there by what shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from filbert.core.files import write_whole
from filbert.engine.likelihood import Numbers, SideBySide

LEAST = np.float32(-32)
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Said:
    """A row a place. log_p: shape (n, n_vocab), log-likelihoods in nats; nll: of the token that comes; top: the
    likeliest."""

    log_p: Floats
    nll: Numbers
    top: NDArray[np.int32]

    def __getitem__(self, rows: slice) -> Said:
        return Said(self.log_p[rows], self.nll[rows], self.top[rows])


def said(logits: Floats, targets: Sequence[int]) -> Said:
    """logits: shape (n, n_vocab); targets: the token that comes, of each row. A row that holds a NaN gives NaN."""
    found = Said(np.empty(logits.shape, np.float32), np.empty(len(logits)), np.empty(len(logits), np.int32))
    for i, (row, target) in enumerate(zip(logits, targets, strict=True)):
        below = row - row.max()
        normaliser = math.log(np.exp(below).sum())
        found.nll[i] = normaliser - below[target]
        found.top[i] = row.argmax()
        np.maximum(below - np.float32(normaliser), LEAST, out=found.log_p[i])
    return found


def beside(logits: Floats, base: Said, targets: Sequence[int]) -> SideBySide:
    """Another model's logits of the same places, of shape (n, n_vocab), beside what the base said. A row that holds a
    NaN in either gives NaN.

    In float32, with what is added up kept near 0: four times as fast as `side_by_side`, whose mean it meets to 1e-6 or,
    of a large divergence, 1e-4 of it. Arrays serve row after row, for memory that is new costs more than the sums."""
    n = len(logits)
    found = SideBySide(np.empty(n), np.empty(n), base.nll, np.empty(n, np.bool_))
    p, log_q, other = (np.empty(logits.shape[1], np.float32) for _ in range(3))
    with np.errstate(invalid="ignore"):
        for i, (row, target) in enumerate(zip(logits, targets, strict=True)):
            log_p = base.log_p[i]
            np.exp(log_p, out=p)
            total = float(p.sum())
            np.subtract(row, row.max(), out=log_q)
            normaliser = math.log(np.exp(log_q, out=other).sum())
            shift = np.float32(normaliser)
            np.subtract(log_q, shift, out=log_q)
            rest = float(shift) - normaliser  # of the normaliser, too small for a float32 beside it
            np.subtract(log_p, log_q, out=other)
            kl = float(np.dot(p, other)) / total - math.log(total) - rest
            found.kl[i] = np.maximum(0, kl + 0 * base.nll[i])  # rounding may leave it below 0; a NaN stays
            found.nll[i] = -float(log_q[target]) - rest
            found.same[i] = row.argmax() == base.top[i]
    return found


def keep(file: Path, parts: Sequence[Said]) -> None:
    """Write it whole or not at all. Raises DiskFull, StoreReadOnly."""
    with write_whole(file) as target:
        for name in Said.__slots__:
            for part in parts:
                target.write(np.ascontiguousarray(getattr(part, name)).data)


def size_of_kept(n: int, n_vocab: int) -> int:
    """Bytes of a file of so many places."""
    return n * (4 * n_vocab + 8 + 4)


def kept(file: Path, n: int, n_vocab: int) -> Said:
    """The numbers are mapped from the file."""
    data = np.asarray(np.memmap(file, np.uint8, "r"))
    log_p, nll, top = np.split(data, np.cumsum([4 * n * n_vocab, 8 * n]))
    return Said(log_p.view(np.float32).reshape(n, n_vocab), nll.view(np.float64), top.view(np.int32))
