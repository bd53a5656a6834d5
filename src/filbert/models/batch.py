"""Prompt tokens computed in one go where nobody says how many. Between two such pieces the engine writes a token of
each answer under way and hears of clients that left, so that both wait: benchmarks/serve/gap.py and leaving.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filbert.models.header import Header
    from filbert.models.speed import Calibration

BATCH = 256
LEAST_BATCH = 64  # fewer cost speed, and save little
BATCH_WITH_IMAGES = 512  # some models look at an image as a whole
PIECE_S = 0.9  # that a piece may take; behind a long prompt it takes twice as long
LONG_PROMPT = 4096


def default_batch(headers: Sequence[Header], measured: Calibration | None) -> int:
    """headers: of the model's parts, and its projector if it has one; measured: what is known of this machine."""
    if any(header.kind == "projector" for header in headers):
        return BATCH_WITH_IMAGES
    if measured is None:
        return BATCH
    from filbert.models.speed import predict

    speed = predict(headers, measured, LONG_PROMPT).prompt
    return next((size for size in (BATCH, BATCH // 2) if size <= speed * PIECE_S), LEAST_BATCH)
