"""A model of another server, asked as one of ours. What it is told is rebuilt from our own schema."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from filbert.core.errors import BadInput
from filbert.core.messages import Message, shown
from filbert.engine.admission import Place
from filbert.engine.bounds import UNBOUNDED, Input, text_bytes
from filbert.engine.echo import Echo
from filbert.engine.generation import Usage
from filbert.engine.load_plan import Kind
from filbert.engine.model import Prepared
from filbert.engine.pooled import Embeddings, Ranked
from filbert.engine.sampling import Sampling
from filbert.engine.thinking import Thinking
from filbert.engine.tools import NO_TOOLS, ToolUse
from filbert.server.upstreams.events import Counted, Part, RemoteAnswer
from filbert.server.upstreams.upstream import Upstream

CHAT, COMPLETIONS = "/chat/completions", "/completions"
MOST_DIMENSIONS = 1 << 16
T = TypeVar("T")
EVERYWHERE = {
    "messages",
    "prompt",
    "suffix",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "logprobs",
    "top_logprobs",
    "n",
    "logit_bias",
    "reasoning_effort",
    "stream",
    "stream_options",
}
ON_FILBERT = EVERYWHERE | {
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "grammar",
    "json_schema",
    "chat_template_kwargs",
}
EFFORTS = ("low", "medium", "high")


class Row(Part):
    index: int = Field(ge=0)
    embedding: list[float] = Field(max_length=MOST_DIMENSIONS)


class Vectors(Part):
    data: list[Row]
    usage: Counted = Counted()


class RankedRow(Part):
    index: int = Field(ge=0)
    relevance_score: float


class Ranking(Part):
    results: list[RankedRow]


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """id: its name over there."""

    upstream: Upstream
    id: str

    @property
    def name(self) -> str:
        """What our clients call it."""
        return f"{self.upstream.name}/{self.id}"

    @property
    def thinking(self) -> Thinking:
        """Nobody knows; a wish is passed on as a hint."""
        return Thinking(levels=True, always=False)

    @property
    def context(self) -> int:
        """Whoever runs it refuses what is too long."""
        return UNBOUNDED

    @property
    def pooled_context(self) -> int:
        return UNBOUNDED

    @property
    def scored_context(self) -> int:
        return UNBOUNDED

    def settled(self, sampling: Sampling) -> Sampling:
        return sampling

    def need(self, kind: Kind) -> None:
        """Nobody knows its kind here."""

    def need_embeddings(self) -> None:
        """As `need`."""

    def prompt_bound(self, messages: Sequence[Message], use: ToolUse) -> int:
        return 0

    def count_tokens(self, messages: Sequence[Message], use: ToolUse, sampling: Sampling | None = None) -> int:
        raise self._not_there("count tokens before it answers", "Ask it, and read the usage.")

    def tokenize(self, text: str, begun: bool = False) -> list[int]:
        raise self._not_there("tell its tokens", "Send text.")

    def detokenize(self, tokens: Sequence[int]) -> str:
        raise self._not_there("tell what tokens stand for", "Send text.")

    def prepare_chat(self, messages: Sequence[Message], sampling: Sampling, use: ToolUse = NO_TOOLS) -> Prepared:
        """What to send for a conversation. Raises BadInput for what the server could not hold to."""
        body: dict[str, Any] = {"messages": shown(messages), **self._fields(sampling)}
        if not self.upstream.is_filbert:
            body["messages"] = [_without_thought(message) for message in body["messages"]]
        if use.tools:
            body |= {"tools": [tool.to_json() for tool in use.tools], "parallel_tool_calls": use.parallel}
            body["tool_choice"] = "required" if use.required else "auto"
        if sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        if sampling.json_schema is not None:
            schema = {"name": "answer", "schema": sampling.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return self._prepared(CHAT, body)

    def prepare_text(self, prompt: Input, sampling: Sampling, suffix: str = "") -> Prepared:
        """What to send to go on from a text. Raises BadInput for what the server could not hold to."""
        body: dict[str, Any] = {"prompt": prompt, **self._fields(sampling)}
        if suffix:
            body["suffix"] = suffix
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        if sampling.json_schema is not None:
            if not self.upstream.is_filbert:
                raise self._not_there("hold a text to a schema", "Ask for it in a chat.")
            body["json_schema"] = sampling.json_schema
        return self._prepared(COMPLETIONS, body)

    def times(self, prepared: Prepared, answers: int) -> Prepared:
        return replace(prepared, body={**prepared.body, "n": answers})

    def admit(self, prepared: Prepared, owner: str, most_waiting: int | None) -> Place:
        """Raises Busy where so many wait already."""
        return self.upstream.admission.ask(prepared.tokens, owner, most_waiting)

    @asynccontextmanager
    async def answering(self, prepared: Prepared) -> AsyncIterator[RemoteAnswer]:
        """Leaving the block early closes the connection. Raises UpstreamError, and what the server refuses."""
        body = self._wire(prepared.body)
        async with self.upstream.asked(prepared.route, body) as response:
            yield RemoteAnswer(self.upstream, response, self.name, prepared.route == CHAT, text_bytes(body))

    async def waited(self, call: Callable[[], T]) -> T:
        """Nothing here waits for the server."""
        return await asyncio.to_thread(call)

    async def embedding(self, texts: Sequence[Input], owner: str, most_waiting: int | None) -> Embeddings:
        """Made unit vectors, whatever they were. Raises Busy, UpstreamError, and what the server refuses."""
        body = {"model": self.id, "input": list(texts)}
        said = await self.upstream.document("/embeddings", body, owner, most_waiting)
        try:
            found = Vectors.model_validate_json(said)
        except ValidationError as exc:
            raise self.upstream.junk("Its vectors are none.") from exc
        rows = sorted(found.data, key=lambda row: row.index)
        if [row.index for row in rows] != list(range(len(texts))) or len({len(row.embedding) for row in rows}) > 1:
            raise self.upstream.junk("Its vectors are not one a text.")
        return Embeddings([_unit(row.embedding) for row in rows], Usage(prompt_tokens=found.usage.prompt_tokens))

    async def echoing(self, prompts: Sequence[Input], n: int, owner: str, most_waiting: int | None) -> list[Echo]:
        raise self._not_there("tell the log-probabilities of a prompt", "Ask that server for this.")

    async def ranking(self, query: str, documents: Sequence[str], owner: str, most_waiting: int | None) -> list[Ranked]:
        """Raises Busy, UpstreamError, and what the server refuses."""
        body = {"model": self.id, "query": query, "documents": list(documents)}
        said = await self.upstream.document("/rerank", body, owner, most_waiting)
        try:
            rows = Ranking.model_validate_json(said).results
        except ValidationError as exc:
            raise self.upstream.junk("Its ranks are none.") from exc
        if sorted(row.index for row in rows) != list(range(len(documents))):
            raise self.upstream.junk("Its ranks are not one a document.")
        return sorted((Ranked(row.index, row.relevance_score) for row in rows), key=lambda ranked: -ranked.score)

    def _fields(self, sampling: Sampling) -> dict[str, Any]:
        """What must hold is refused where the server cannot; what only shapes the choice is left out there."""
        if sampling.grammar is not None and not self.upstream.is_filbert:
            raise self._not_there("hold to a grammar", "Use a JSON schema.")
        fields = sampling.to_engine()
        if "max_tokens" in fields and (urlsplit(self.upstream.options.url).hostname or "").endswith(".openai.com"):
            fields["max_completion_tokens"] = fields.pop("max_tokens")  # their newer models know no other name
        if self.upstream.is_filbert and sampling.think in ("on", "off"):
            fields["chat_template_kwargs"] = {"enable_thinking": sampling.think == "on"}
        return fields | ({"reasoning_effort": sampling.think} if sampling.think in EFFORTS else {})

    def _wire(self, body: Mapping[str, Any]) -> dict[str, Any]:
        known = ON_FILBERT if self.upstream.is_filbert else EVERYWHERE
        asked = {name: value for name, value in body.items() if name in known}
        if "stream_options" in asked:
            asked["stream_options"] = {"include_usage": True}
        return {"model": self.id, **asked}

    def _prepared(self, route: str, body: Mapping[str, Any]) -> Prepared:
        return Prepared("text", route, body, tokens=1)  # the server counts its own; here each is one of so many at once

    def _not_there(self, what: str, do: str) -> BadInput:
        return BadInput(f"{self.name} is on another server and cannot {what}.", do=do)


def _without_thought(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "reasoning_content"}


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]
