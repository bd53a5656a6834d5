"""What a request asks of the sampler: declared once for the command line, Python, HTTP bodies, config and docs."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from filbert.core.settings import Options
from filbert.engine.schema import bounded_schema, check_repeats

FROM_FILE: dict[str, Any] = {"from_file": True}  # the command line takes the name of a file that holds it
SHAPING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
)
MAX_GRAMMAR_BYTES = 64_000
Think: TypeAlias = Literal["on", "off", "low", "medium", "high"]


class Sampling(Options):
    """Values left out are what the model's file recommends, else the engine's defaults. Where none of them is given,
    the catalogue's recommendation for the model holds."""

    table: ClassVar[str] = "sampling"

    temperature: float | None = Field(
        None,
        ge=0,
        le=5,
        description="0 takes the likeliest token each time.",
        json_schema_extra={"also": "--temp"},
    )
    top_k: int | None = Field(None, ge=0, le=1_000_000, description="Choose among the k likeliest tokens; 0 means all.")
    top_p: float | None = Field(
        None, ge=0, le=1, description="Choose among the likeliest tokens that make up this probability."
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="Leave out tokens less likely than this share of the likeliest."
    )
    repeat_penalty: float | None = Field(None, gt=0, le=10, description="Above 1 makes recent tokens less likely.")
    repeat_last_n: int | None = Field(
        None, ge=-1, le=1_000_000, description="How many recent tokens are penalised; -1 means the whole context."
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Penalty for each time a token has occurred."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Penalty for a token that has occurred at all."
    )
    seed: int | None = Field(
        None, ge=0, le=2**32 - 2, description="The same seed gives the same text on the same machine."
    )
    max_tokens: int | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="New tokens at most. Left out: the context divided by the answers at once.",
    )
    think: Think | None = Field(
        None,
        description="Whether a model that can thinks before it answers: on, off, or how hard: low, medium, high.",
    )
    stop: tuple[str, ...] = Field((), max_length=64, description="Texts that end the answer; they are not part of it.")
    logprobs: int | None = Field(None, ge=0, le=20, description="Log-probabilities of each token and this many others.")
    json_schema: dict[str, Any] | None = Field(
        None, description="The answer is JSON that holds to this schema.", json_schema_extra=FROM_FILE
    )
    grammar: str | None = Field(None, description="The answer holds to this GBNF grammar.", json_schema_extra=FROM_FILE)

    @field_validator("think", mode="before")
    @classmethod
    def _on_or_off(cls, think: object) -> object:
        return {True: "on", False: "off"}.get(think, think) if isinstance(think, bool) else think

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: object) -> object:
        texts = (stop,) if isinstance(stop, str) else stop
        return tuple(text for text in texts if text != "") if isinstance(texts, tuple | list) else texts

    @field_validator("json_schema")
    @classmethod
    def _bounded_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        return schema if schema is None else bounded_schema(schema)

    @field_validator("grammar")
    @classmethod
    def _bounded_grammar(cls, grammar: str | None) -> str | None:
        if grammar is not None:
            if len(grammar.encode()) > MAX_GRAMMAR_BYTES:
                raise ValueError(f"a grammar may have {MAX_GRAMMAR_BYTES} bytes")
            if not re.search(r"^\s*root\s*::=", grammar, re.MULTILINE) or grammar.startswith("%"):
                raise ValueError("a grammar is written in GBNF and begins at its rule root ::= …")
            check_repeats(grammar)
        return grammar

    @property
    def chooses(self) -> bool:
        """Whether any of the values that shape the choice of a token is given."""
        return any(getattr(self, name) is not None for name in SHAPING)

    def to_engine(self) -> dict[str, Any]:
        """The fields of a worker's request body."""
        plain = self.model_dump(exclude_none=True, exclude={"stop", "logprobs", "json_schema", "think"})
        if self.seed is not None:
            plain["cache_prompt"] = False  # a prompt that is partly remembered is computed in other pieces: other bytes
        if self.stop:
            plain["stop"] = list(self.stop)
        return plain
