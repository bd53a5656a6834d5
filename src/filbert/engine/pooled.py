"""Vectors and ranks: what is asked for a batch of texts, and what is read of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from filbert.engine.bounds import Input
from filbert.engine.generation import Usage
from filbert.engine.load_plan import Role
from filbert.engine.transport import Event


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors`: one unit vector a text, in the order given."""

    vectors: list[list[float]]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's place: `index` into what was given, `score` as the model gives it, higher is closer."""

    index: int
    score: float


class Pooled(Protocol):
    """Work on texts, batch by batch. computed: the texts of a batch as the engine reads them."""

    role: ClassVar[Role]
    route: ClassVar[str]

    def body(self, batch: Sequence[Input]) -> dict[str, Any]: ...
    def computed(self, batch: Sequence[Input]) -> Sequence[Input]: ...
    def read(self, event: Event) -> None: ...


@dataclass(slots=True)
class Embedding:
    """Of texts, or of their tokens."""

    role: ClassVar[Role] = "embedding"
    route: ClassVar[str] = "/v1/embeddings"
    vectors: list[list[float]] = field(default_factory=list)
    tokens: int = 0

    def body(self, batch: Sequence[Input]) -> dict[str, Any]:
        return {"input": batch}

    def computed(self, batch: Sequence[Input]) -> Sequence[Input]:
        return batch

    def read(self, event: Event) -> None:
        self.vectors += [row["embedding"] for row in sorted(event["data"], key=lambda row: int(row["index"]))]
        self.tokens += event["usage"]["prompt_tokens"]

    @property
    def found(self) -> Embeddings:
        return Embeddings(self.vectors, Usage(prompt_tokens=self.tokens))


@dataclass(slots=True)
class Ranking:
    """Of documents by their closeness to a query."""

    role: ClassVar[Role] = "rerank"
    route: ClassVar[str] = "/v1/rerank"
    query: str
    ranks: list[Ranked] = field(default_factory=list)

    def body(self, batch: Sequence[Input]) -> dict[str, Any]:
        return {"query": self.query, "documents": batch}

    def computed(self, batch: Sequence[Input]) -> Sequence[Input]:
        return [f"{self.query}{document}" for document in batch]

    def read(self, event: Event) -> None:
        before = len(self.ranks)
        self.ranks += [Ranked(before + int(row["index"]), float(row["relevance_score"])) for row in event["results"]]

    @property
    def found(self) -> list[Ranked]:
        """The closest first."""
        return sorted(self.ranks, key=lambda ranked: -ranked.score)
