"""An answer in OpenAI's shape: the bytes of the worker, where it writes them so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import reduce
from itertools import accumulate, chain
from typing import Any

from filbert.core.errors import FilbertError
from filbert.engine.generation import Reply, Usage, gather, heard, read_event
from filbert.engine.model import Prepared
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, choice_of, finish_reason
from filbert.server.error_bodies import openai_error
from filbert.server.measured import USAGE
from filbert.server.response import events, with_calls

COMPACT = (",", ":")  # as the worker writes


class EachChoice:
    """Reads the calls of several answers to one prompt, each by a reader of its own."""

    def __init__(self, make: Callable[[], CallReader | None]) -> None:
        self._make = make
        self._readers: dict[int, CallReader | None] = {}

    def read(self, event: Event) -> Iterable[Event]:
        number = choice_number(event)
        if number is None:
            return (event,)
        if number not in self._readers:
            self._readers[number] = self._make()
        found = self._readers[number]
        return found.read(event) if found else (event,)

    def rest(self) -> Iterable[Event]:
        return chain.from_iterable(found.rest() for found in self._readers.values() if found)


class OpenAIShape:
    """Of a chat and of a completion."""

    content_type = "text/event-stream"

    def __init__(self, calls: CallReader | None = None, usage: bool = True) -> None:
        """usage: whether the client asked for it; the worker always tells it."""
        self.calls, self._usage = calls, usage

    def stream(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Untouched where the worker writes it so."""
        legacy = prepared.route == "/v1/completions" and "logprobs" in prepared.body
        thought = "timings_per_token" in prepared.body
        several = prepared.body.get("n", 1) > 1
        if not (legacy or thought or several or self.calls):
            return pieces if self._usage else without_usage(pieces)
        found = events(pieces)
        if legacy:
            found = with_legacy_logprobs(found)
        if thought:
            found = with_reasoning_tokens(found)
        if several:
            found = with_one_usage(found)
        told = as_bytes(with_calls(found, self.calls) if self.calls else found)
        return told if self._usage else without_usage(told)

    def whole(self, found: Sequence[Event]) -> dict[str, Any]:
        """In the shape the worker gives to those who want it whole."""
        return gathered(found)

    def failed(self, error: FilbertError) -> bytes:
        return f"data: {json.dumps(openai_error(error))}\n\n".encode()


async def without_usage(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream without the usage in its last event. Events before it are not parsed, and not held back."""
    held = b""
    async for piece in pieces:
        held += piece
        last, boundary, held = held.rpartition(b"\n\n")
        whole = last + boundary
        if USAGE in whole:
            whole = b"".join(map(_without_usage, whole.split(b"\n\n")[:-1]))
        if whole:
            yield whole
    if held:
        yield held


def _without_usage(event: bytes) -> bytes:
    if USAGE not in event:
        return event + b"\n\n"
    told: Event = json.loads(event.removeprefix(b"data: "))
    told.pop("usage")
    return f"data: {json.dumps(told, separators=COMPACT)}\n\n".encode() if told["choices"] else b""


async def as_bytes(found: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in found:
        yield f"data: {json.dumps(event, separators=COMPACT)}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def with_reasoning_tokens(found: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """A stream whose usage tells the tokens of the thought. Each event of the worker counts them; the client gets
    these counts at the end only."""
    usage = Usage()
    async for event in found:
        usage = heard(event, usage)
        if read_event(event, "stop").finish is None:
            event.pop("timings", None)
        if event.get("usage"):
            event["usage"] |= reasoning_details(usage)
        yield event


def reasoning_details(usage: Usage) -> dict[str, Any]:
    """Of an answer with a thought: what OpenAI's usage holds beside the totals."""
    tokens = usage.reasoning_tokens
    return {"completion_tokens_details": {"reasoning_tokens": tokens}} if tokens else {}


async def with_one_usage(found: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Of several answers to one prompt the worker counts each by itself; their sum comes at the end."""
    counted: list[Event] = []
    async for event in found:
        if "prompt_progress" in event:  # of each answer but the first, whose relay took it out
            continue
        if event.get("usage"):
            counted.append(event)
            event = {key: value for key, value in event.items() if key not in ("usage", "timings")}
        if event["choices"]:
            yield event
    if counted:
        yield {**counted[-1], "choices": [], "usage": summed_usage(counted)}


def summed_usage(found: Sequence[Event]) -> dict[str, Any] | None:
    """The prompt once, and what was written to it in all."""
    usages = [event["usage"] for event in found if event.get("usage")]
    if len(usages) < 2:
        return usages[0] if usages else None
    written = sum(usage["completion_tokens"] for usage in usages)
    return {**usages[-1], "completion_tokens": written, "total_tokens": usages[-1]["prompt_tokens"] + written}


async def with_legacy_logprobs(found: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """A stream of /v1/completions in OpenAI's shape; the worker writes log-probabilities as it does for a chat."""
    begin = 0
    async for event in found:
        if tokens := _logprobs(event):
            event["choices"][0]["logprobs"] = legacy_logprobs(tokens, begin)
            begin += sum(len(token["token"]) for token in tokens)
        yield event


def legacy_logprobs(tokens: list[dict[str, Any]], begin: int = 0) -> dict[str, Any]:
    """begin: characters of the answer before these tokens, from where their offsets are counted."""
    ends = accumulate((len(token["token"]) for token in tokens), initial=begin)
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [_likeliest(token) for token in tokens],
        "text_offset": list(ends)[:-1],
    }


def _likeliest(token: dict[str, Any]) -> dict[str, float]:
    """The chosen token is always among them, once: alone, a part of a character is written otherwise. Of two that are
    written alike, the likelier counts."""
    alternatives = [other for other in reversed(token["top_logprobs"]) if other["id"] != token["id"]]
    others = {other["token"]: other["logprob"] for other in alternatives}
    return {token["token"]: token["logprob"]} | others


def gathered(found: Sequence[Event]) -> dict[str, Any]:
    last = found[-1]
    usage = summed_usage(found)
    numbers = sorted({number for event in found if (number := choice_number(event)) is not None})
    return {
        "id": last["id"],
        "object": "chat.completion" if last["object"].startswith("chat") else "text_completion",
        "created": last["created"],
        "model": last["model"],
        "choices": [
            _choice(number, [each for each in found if choice_number(each) in (number, None)]) for number in numbers
        ],
        "usage": usage
        and usage | reasoning_details(reduce(lambda before, event: heard(event, before), found, Usage())),
    }


def choice_number(event: Event) -> int | None:
    """Of several answers to one prompt, which an event belongs to; None of one that tells of all."""
    return int(event["choices"][0].get("index", 0)) if event.get("choices") else None


def _choice(number: int, found: Sequence[Event]) -> dict[str, Any]:
    reasons = [reason for event in found if (reason := finish_reason(event))]
    reason = reasons[-1] if reasons else "stop"
    reply = gather([read_event(event, reason) for event in found])
    chat = found[-1]["object"].startswith("chat")
    choice: dict[str, Any] = {"index": number, "finish_reason": reason}
    choice |= {"message": _message(reply)} if chat else {"text": reply.text}
    if tokens := [token for event in found for token in _logprobs(event)]:
        choice["logprobs"] = {"content": tokens} if chat else legacy_logprobs(tokens)
    return choice


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message |= {"content": reply.text or None, "tool_calls": list(reply.tool_calls)}
    return message


def _logprobs(event: dict[str, Any]) -> list[dict[str, Any]]:
    return (choice_of(event).get("logprobs") or {}).get("content") or []
