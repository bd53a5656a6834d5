"""What a measurement asks of a model, be it here or on another server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from filbert.engine.forest import Item

if TYPE_CHECKING:
    from filbert.engine.scorer import Scored
    from filbert.report.measurement import Provenance


class TokenScorer(Protocol):
    """engine/scorer.py and evaluate/served.py make it. sha256, version: two that have both alike give the same numbers;
    context: tokens that a prompt and an ending without its last may have; start: those that every text begins with;
    first: the one that stands for an empty text."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def start(self) -> Sequence[int]: ...
    @property
    def first(self) -> int: ...
    def tokenize(self, texts: Sequence[str]) -> list[list[int]]: ...
    def score_items(self, items: Sequence[Item]) -> list[list[Scored]]: ...
    def provenance(self, command: str) -> Provenance: ...
