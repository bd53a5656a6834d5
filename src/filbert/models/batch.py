"""Prompt tokens computed in one go where nobody says how many. Between two such pieces the engine writes a token of
each answer under way and hears of clients that left, so that both wait: benchmarks/serve/gap.py and leaving.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filbert.models.header import Header

BATCH = 256
BATCH_WITH_IMAGES = 512  # some models look at an image as a whole


def default_batch(headers: Sequence[Header]) -> int:
    """headers: of the model's parts, and its projector if it has one."""
    return BATCH_WITH_IMAGES if any(header.kind == "projector" for header in headers) else BATCH
