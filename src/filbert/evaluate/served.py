"""A model on another server as a scorer: any that tells the log-probabilities of a prompt (`echo` of OpenAI's
/v1/completions).

A server that tells a text's tokens (/tokenize, as ours and vLLM's) is sent tokens, as a model here.
Any other is sent texts. What is counted as their tokens are then characters, and its own are told apart by where they
begin: one that holds the prompt's end and the ending's beginning is the ending's.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from filbert.core.errors import BadRequest, ContextOverflow, UnknownRoute, UpstreamError
from filbert.engine.bounds import UNBOUNDED
from filbert.engine.forest import Item, Tokens
from filbert.engine.scorer import Scored
from filbert.engine.token_scorer import TokenScorer
from filbert.evaluate.endpoint import Endpoint
from filbert.report.measurement import Provenance
from filbert.version import __version__

AT_ONCE = 4  # requests
PROMPTS = 16  # of one request, at most
TOKENS, COMPLETIONS = "/tokenize", "/v1/completions"
TOLD = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}  # some servers take no 0 tokens
T = TypeVar("T")
Q = TypeVar("Q")


class Tokenized(BaseModel):
    """max_model_len: tokens of a prompt and of what follows."""

    tokens: list[int]
    max_model_len: int | None = None


class Logprobs(BaseModel):
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None]
    text_offset: list[int] = []


class Choice(BaseModel):
    index: int = 0
    text: str = ""
    logprobs: Logprobs | None = None


class Completion(BaseModel):
    choices: list[Choice]


@contextmanager
def served(url: str, model: str, key: str = "", context: int | None = None, **ways: Any) -> Iterator[TokenScorer]:
    """model: its name over there; context: no more tokens than these. Raises BadInput, and what `Endpoint.post` raises
    where the server cannot be asked."""
    endpoint = Endpoint(url, key, **ways)
    with asyncio.Runner() as runner:
        try:
            vocabulary = runner.run(_vocabulary(endpoint, model))
            yield ServedScorer(endpoint, model, vocabulary, context, runner)
        finally:
            runner.run(endpoint.close())


async def _vocabulary(endpoint: Endpoint, model: str) -> Vocabulary:
    try:
        bare = await _tokenized(endpoint, model, "a")
    except (UnknownRoute, BadRequest, ValidationError):
        return OfCharacters()
    try:
        begun = (await _tokenized(endpoint, model, "a", begun=True)).tokens
        start = begun[: begun.index(bare.tokens[0])]
    except (BadRequest, ValueError):
        start = []
    room = UNBOUNDED if bare.max_model_len is None else bare.max_model_len - 2  # the ending's last, and what follows
    empty = start or (await _tokenized(endpoint, model, "\n")).tokens
    return OfServer(endpoint, model, room, start, empty[-1])


async def _tokenized(endpoint: Endpoint, model: str, text: str, begun: bool = False) -> Tokenized:
    body = {"model": model, "prompt": text, "add_special_tokens": begun}
    return Tokenized.model_validate(await endpoint.post(TOKENS, body))


class Vocabulary(Protocol):
    """How texts are taken apart, and how what is scored is sent. room: tokens that fit."""

    room: int
    start: Sequence[int]
    first: int

    async def tokens(self, text: str) -> list[int]: ...
    def prompts(self, item: Item) -> Iterator[Sequence[Tokens] | str]: ...
    def places(self, told: Choice, prefix: Tokens, ending: Tokens) -> range: ...


@dataclass(slots=True)
class OfServer:
    """Its own tokens."""

    endpoint: Endpoint
    model: str
    room: int
    start: Sequence[int]
    first: int

    async def tokens(self, text: str) -> list[int]:
        return (await _tokenized(self.endpoint, self.model, text)).tokens if text else []

    def prompts(self, item: Item) -> Iterator[Sequence[Tokens] | str]:
        """The endings of an item begin alike, which a server may read once."""
        whole = [[*item.prefix, *ending] for ending in item.endings]
        yield from (whole[at : at + PROMPTS] for at in range(0, len(whole), PROMPTS))

    def places(self, told: Choice, prefix: Tokens, ending: Tokens) -> range:
        return range(len(prefix), len(prefix) + len(ending))


@dataclass(slots=True)
class OfCharacters:
    """A text's characters, for a server that tells no tokens. It refuses what is too long."""

    room: int = UNBOUNDED
    start: Sequence[int] = ()
    first: int = ord("\n")

    async def tokens(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def prompts(self, item: Item) -> Iterator[Sequence[Tokens] | str]:
        """One each: some servers take no lists."""
        yield from ("".join(map(chr, [*item.prefix, *ending])) for ending in item.endings)

    def places(self, told: Choice, prefix: Tokens, ending: Tokens) -> range:
        """From the token in which the ending begins to the last before what the server wrote itself."""
        text, offsets = "".join(map(chr, [*prefix, *ending])), told.logprobs.text_offset if told.logprobs else []
        if not told.text.lstrip().startswith(text.strip()):
            return range(0)
        first = sum(end <= len(prefix) for end in offsets[1:])
        return range(first, sum(begin < len(text) for begin in offsets))


class ServedScorer:
    """A TokenScorer. Leaving what it asks, also by Ctrl-C, closes its connections."""

    version = "served"

    def __init__(
        self, endpoint: Endpoint, model: str, vocabulary: Vocabulary, context: int | None, runner: asyncio.Runner
    ) -> None:
        self.name = model
        self.sha256 = hashlib.sha256(f"{model} {endpoint.url}".encode()).hexdigest()  # of its weights nobody knows one
        self.context = min(vocabulary.room, context or UNBOUNDED)
        self.start, self.first = vocabulary.start, vocabulary.first
        self._endpoint, self._vocabulary, self._runner = endpoint, vocabulary, runner
        self._turns = asyncio.Semaphore(AT_ONCE)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, none added. Raises what `Endpoint.post` raises."""
        return self._each(self._vocabulary.tokens, texts)

    def score_items(self, items: Sequence[Item]) -> list[list[Scored]]:
        """Log-likelihood of each ending of each item; None where the server gave no number, or has too little context.
        Raises what `Endpoint.post` raises, and UpstreamError where it tells none of prompts."""
        return self._each(self._scored, items)

    def provenance(self, command: str) -> Provenance:
        versions = f"asked by filbert {__version__}"
        return Provenance(f"{self.name} at {self._endpoint.url}", "", versions, machine="", threads=0, command=command)

    def _each(self, ask: Callable[[Q], Awaitable[T]], questions: Sequence[Q]) -> list[T]:
        async def one(question: Q) -> T:
            async with self._turns:
                return await ask(question)

        async def every() -> list[T]:
            return await asyncio.gather(*map(one, questions))

        return self._runner.run(every())

    async def _scored(self, item: Item) -> list[Scored]:
        found: list[Scored] = []
        for prompts in self._vocabulary.prompts(item):
            n = 1 if isinstance(prompts, str) else len(prompts)
            endings = item.endings[len(found) : len(found) + n]
            try:
                told = await self._told(prompts, n)
            except ContextOverflow:
                found += [Scored(None, False, len(ending)) for ending in endings]
            else:
                found += [self._of(one, item.prefix, ending) for one, ending in zip(told, endings, strict=True)]
        return found

    async def _told(self, prompts: Sequence[Tokens] | str, n: int) -> list[Choice]:
        body = {"model": self.name, "prompt": prompts, **TOLD}
        try:
            answer = Completion.model_validate(await self._endpoint.post(COMPLETIONS, body))
        except ValidationError as exc:
            raise self._tells_none() from exc
        if len(answer.choices) != n:
            raise self._tells_none()
        return sorted(answer.choices, key=lambda choice: choice.index)

    def _of(self, told: Choice, prefix: Tokens, ending: Tokens) -> Scored:
        places, logprobs = self._vocabulary.places(told, prefix, ending), told.logprobs
        if not (places and logprobs) or places.stop > min(len(logprobs.token_logprobs), len(logprobs.top_logprobs)):
            raise self._tells_none()
        values = [logprobs.token_logprobs[at] for at in places]
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        if len(numbers) < len(values):
            return Scored(None, False, len(places))
        greedy = all(value >= _highest(logprobs.top_logprobs[at]) for at, value in zip(places, numbers, strict=True))
        return Scored(math.fsum(numbers), greedy, len(places))

    def _tells_none(self) -> UpstreamError:
        return UpstreamError(
            f"{self._endpoint.host} does not tell how likely the tokens of a prompt are.",
            why="Its answer to `echo` with `logprobs` on /v1/completions holds none of them.",
            do="Ask a server that does, as `filbert serve` and vLLM do.",
        )


def _highest(likeliest: dict[str, float | None] | None) -> float:
    return max((value for value in (likeliest or {}).values() if value is not None), default=math.inf)
