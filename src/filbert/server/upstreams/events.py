"""What another server writes, as the events of a worker: each is built anew out of what we know of answers, so that
nothing else of it reaches a client."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from filbert.core.errors import BadAnswer, UpstreamError
from filbert.engine.transport import Event
from filbert.server.upstreams.upstream import Upstream

MOST_LINE = 4 << 20
MOST_INDEX = 127
MOST_TOKENS = 10**9
BYTES_A_TOKEN = 4  # of a prompt, until the server tells
REASONS = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
COMPACT = (",", ":")  # as the worker writes
Tokens = Field(0, ge=0, le=MOST_TOKENS)


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class CalledFunction(Part):
    name: str | None = None
    arguments: str | None = None


class CallPiece(Part):
    index: int | None = Field(None, ge=0, le=MOST_INDEX)
    id: str | None = None
    function: CalledFunction = CalledFunction()


class Said(Part):
    """A delta, or a message."""

    content: str | None = None
    reasoning: str | None = Field(None, validation_alias=AliasChoices("reasoning_content", "reasoning"))
    tool_calls: list[CallPiece] | None = None


NOTHING = Said.model_validate({})


class Likely(Part):
    token: str
    logprob: float
    bytes: list[int] | None = None


class ChosenToken(Likely):
    top_logprobs: list[Likely] | None = Field(None, max_length=64)


class Logprobs(Part):
    """As a chat writes them, and as a completion does."""

    content: list[ChosenToken] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(Part):
    index: int = Field(0, ge=0, le=MOST_INDEX)
    delta: Said | None = None
    message: Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class PromptDetails(Part):
    cached_tokens: int | None = Tokens


class CompletionDetails(Part):
    reasoning_tokens: int | None = Tokens


class Counted(Part):
    prompt_tokens: int = Tokens
    completion_tokens: int = Tokens
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Written(Part):
    """An event of a stream, or an answer as one document."""

    choices: list[Choice] = Field(default_factory=list, max_length=MOST_INDEX + 1)
    usage: Counted | None = None
    error: dict[str, Any] | str | None = None


class RemoteAnswer:
    """An answer under way. name: of the model, as our clients call it; size: of the prompt, in bytes."""

    def __init__(self, upstream: Upstream, response: httpx.Response, name: str, is_chat: bool, size: int) -> None:
        self._upstream, self._response = upstream, response
        self._told = Told(name, is_chat, size // BYTES_A_TOKEN)

    async def body(self) -> AsyncIterator[bytes]:
        """As a worker's. Raises UpstreamError, and what the server says went wrong."""
        told = self._told
        yield _bytes(told.begun())
        async for document in self._documents():
            written = self._read(document)
            for event in told.heard(written):
                yield _bytes(event)
        if not told.is_whole:
            raise UpstreamError(f"The server {self._upstream.name} broke off.", do="Ask again.")
        yield _bytes(told.ended())
        yield b"data: [DONE]\n\n"

    def _read(self, document: bytes) -> Written:
        try:
            written = Written.model_validate_json(document)
        except ValidationError as exc:
            raise self._upstream.junk("It wrote what is no part of an answer.") from exc
        if written.error:
            error = written.error if isinstance(written.error, dict) else {"message": written.error}
            status = error.get("code")
            raise self._upstream.said_error(status if isinstance(status, int) else 500, error)
        return written

    async def _documents(self) -> AsyncIterator[bytes]:
        """Of a stream, or the only one of a server that writes none."""
        pieces = self._upstream.pieces(self._response)
        if not self._response.headers.get("content-type", "").startswith("text/event-stream"):
            yield b"".join([piece async for piece in pieces])
            return
        async for line in self._lines(pieces):
            if line.startswith(b"data:"):
                if (document := line[5:].strip()) == b"[DONE]":
                    return
                yield document

    async def _lines(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        rest = b""
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            if max(len(rest), *map(len, lines), 0) > MOST_LINE:
                raise self._upstream.junk(f"A line of its answer has more than {MOST_LINE >> 20} MiB.")
            for line in lines:
                yield line


class Told:
    """One answer in a worker's words. Ids and times are ours."""

    def __init__(self, name: str, is_chat: bool, prompt_tokens: int) -> None:
        self._is_chat = is_chat
        kind, begins = ("chat.completion.chunk", "chatcmpl-") if is_chat else ("text_completion", "cmpl-")
        self._same = {"created": int(time.time()), "id": begins + secrets.token_hex(16), "model": name, "object": kind}
        self._usage = Counted(prompt_tokens=prompt_tokens)
        self._n_events = 0
        self._began, self._first = time.monotonic(), 0.0
        self._open: set[int] = set()  # answers that did not end yet
        self._ended: set[int] = set()
        self._arguments: defaultdict[tuple[int, int], str] = defaultdict(str)  # by answer and call

    @property
    def is_whole(self) -> bool:
        return bool(self._ended) and not self._open

    def begun(self) -> Event:
        """How long the prompt is, by its bytes: a client that leaves at once has at least asked that."""
        total = self._usage.prompt_tokens
        progress = {"total": total, "cache": 0, "processed": total, "time_ms": 0}
        return {"choices": [], **self._same, "prompt_progress": progress}

    def heard(self, written: Written) -> Iterator[Event]:
        self._usage = written.usage or self._usage
        for choice in written.choices:
            if choice.index not in self._ended:
                self._open.add(choice.index)
                yield from self._choice(choice)

    def ended(self) -> Event:
        """The counts, and the times by our clock."""
        now, usage = time.monotonic(), self._usage
        written = usage.completion_tokens or self._n_events
        cached = (usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0
        thought = (usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens) or 0
        first = self._first or now
        timings = _timings(usage.prompt_tokens - cached, first - self._began, "prompt")
        timings |= _timings(written, now - first, "predicted") | {"cache_n": cached}
        counts: dict[str, Any] = {
            "completion_tokens": written,
            "prompt_tokens": usage.prompt_tokens,
            "total_tokens": usage.prompt_tokens + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        if thought:
            counts["completion_tokens_details"] = {"reasoning_tokens": thought}
        return {"choices": [], **self._same, "usage": counts, "timings": timings}

    def _choice(self, choice: Choice) -> Iterator[Event]:
        said = choice.delta or choice.message or NOTHING
        logprobs = _logprobs(choice.logprobs, self._is_chat)
        if fields := self._said(choice, said):
            self._first = self._first or time.monotonic()
            self._n_events += 1
            yield self._event(choice.index, fields, None, logprobs)
        if choice.finish_reason:
            self._open.discard(choice.index)
            self._ended.add(choice.index)
            yield self._event(choice.index, {} if self._is_chat else {"text": ""}, self._reason(choice), None)

    def _said(self, choice: Choice, said: Said) -> dict[str, Any]:
        if not self._is_chat:
            return {"text": choice.text} if choice.text else {}
        fields: dict[str, Any] = {"content": said.content, "reasoning_content": said.reasoning}
        fields |= {"tool_calls": [self._call(choice.index, *each) for each in enumerate(said.tool_calls or ())]}
        return {name: value for name, value in fields.items() if value}

    def _call(self, answer: int, position: int, piece: CallPiece) -> dict[str, Any]:
        index = position if piece.index is None else piece.index
        self._arguments[answer, index] += piece.function.arguments or ""
        given = {"name": piece.function.name, "arguments": piece.function.arguments}
        function = {name: value for name, value in given.items() if value is not None}
        head = {"id": piece.id, "type": "function"} if piece.id else {}
        return {"index": index, **head, "function": function}

    def _reason(self, choice: Choice) -> str:
        """Raises BadAnswer for calls whose arguments nobody can read."""
        calls = [arguments for (answer, _), arguments in self._arguments.items() if answer == choice.index]
        reason = REASONS.get(choice.finish_reason or "", "stop")
        if reason == "length":
            return reason
        if not all(map(_is_object, calls)):
            raise BadAnswer("The model called a function with arguments that are no JSON object.", do="Ask again.")
        return "tool_calls" if calls else "stop"  # some say "stop" of a call that had to be

    def _event(self, index: int, said: Mapping[str, Any], reason: str | None, logprobs: Any) -> Event:
        choice = {"finish_reason": reason, "index": index, **({"delta": said} if self._is_chat else said)}
        return {"choices": [choice | ({"logprobs": logprobs} if logprobs else {})], **self._same}


def _timings(tokens: int, seconds: float, kind: str) -> dict[str, Any]:
    rate = tokens / seconds if seconds > 0 else 0.0
    return {f"{kind}_n": tokens, f"{kind}_ms": seconds * 1e3, f"{kind}_per_second": rate}


def _logprobs(found: Logprobs | None, is_chat: bool) -> dict[str, Any] | None:
    """As a worker writes them, for both routes."""
    if found is None:
        return None
    if is_chat:
        return {"content": [_chosen(token) for token in found.content or ()]}
    rows = zip(found.tokens or (), found.token_logprobs or (), strict=False)
    tops = found.top_logprobs or []
    found_tops = (tops[at] if at < len(tops) else {} for at in range(len(found.tokens or ())))
    return {
        "content": [
            {"id": 0, "token": token, "logprob": logprob, "top_logprobs": _top(token, top)}
            for (token, logprob), top in zip(rows, found_tops, strict=False)
            if logprob is not None
        ]
    }


def _chosen(token: ChosenToken) -> dict[str, Any]:
    return {**_likely(token), "top_logprobs": [_likely(other) for other in token.top_logprobs or ()]}


def _likely(token: Likely) -> dict[str, Any]:
    """Its number in the vocabulary nobody tells."""
    return {
        "id": -1,
        "token": token.token,
        "logprob": token.logprob,
        "bytes": token.bytes or list(token.token.encode()),
    }


def _top(token: str, others: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """Ids that tell apart the one that was chosen."""
    return [
        {"id": 0 if text == token else at, "token": text, "logprob": logprob}
        for at, (text, logprob) in enumerate((others or {}).items(), 1)
    ]


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(from_json(arguments or "{}", allow_inf_nan=False), dict)
    except ValueError:
        return False


def _bytes(event: Event) -> bytes:
    return f"data: {json.dumps(event, separators=COMPACT)}\n\n".encode()
