"""A worker's answer as our own: a stream's bytes as they come, or put together for a client that wants it whole.

Either way the gateway reads the worker as a stream, and a client that goes away closes it, which frees the slot.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import reduce
from itertools import accumulate
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from filbert.core.errors import EngineCrashed, EngineStalled, FilbertError
from filbert.engine.generation import Reply, Usage, gather, heard, read_event
from filbert.engine.model import Model, Prepared
from filbert.engine.pool import Loan
from filbert.engine.relay import RelayedAnswer, relay
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, choice_of, finish_reason, refusal
from filbert.server.error_bodies import error_body

PROGRESS = b'"prompt_progress":{'  # inside a string its quotes would be escaped


class Relayed(Response):
    """A stream: what the worker sends, as it comes."""

    def __init__(self, loan: Loan, prepare: Callable[[], Prepared], calls: CallReader | None = None) -> None:
        """loan: the model, given back when the answer is over; prepare: what to send to it, which may take a second;
        calls: who reads the calls of tools in it."""
        super().__init__()
        self._loan, self._prepare, self._calls = loan, prepare, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.create_task(self._answer(scope, receive, send))
        leaving = asyncio.create_task(_client_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.wait({answering, leaving})
            self._loan.give_back()
        if not answering.cancelled():
            answering.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        try:
            prepared = await asyncio.to_thread(self._prepare)
            async with _worker_answer(self._loan.model, prepared) as answer:
                async for piece in self._told(prepared, without_progress(answer.body())):
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except FilbertError as exc:
            if not begun:
                raise
            last = f"data: {json.dumps(error_body(exc))}\n\n".encode()  # the head is out: the stream has to say it
            await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _told(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The stream in OpenAI's shape: untouched where the worker writes it so."""
        legacy = prepared.route == "/v1/completions" and "logprobs" in prepared.body
        thought = "timings_per_token" in prepared.body
        if not (legacy or thought or self._calls):
            return pieces
        found = events(pieces)
        if legacy:
            found = with_legacy_logprobs(found)
        if thought:
            found = with_reasoning_tokens(found)
        return as_bytes(with_calls(found, self._calls) if self._calls else found)


STREAM_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


class Gathered(Relayed):
    """Waits for the whole answer and sends it as one document."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        prepared = await asyncio.to_thread(self._prepare)
        async with _worker_answer(self._loan.model, prepared) as answer:
            found = events(answer.body())
            told = with_calls(found, self._calls) if self._calls else found
            document = gathered([event async for event in told])
        await JSONResponse(document)(scope, receive, send)


@asynccontextmanager
async def _worker_answer(model: Model, prepared: Prepared) -> AsyncIterator[RelayedAnswer]:
    """The worker's answer under way, once there is room for it. Raises what the engine refuses."""
    place = model.admit(prepared)
    try:
        await asyncio.shield(asyncio.wrap_future(place.reached))
        socket = await asyncio.to_thread(model.children.socket, prepared.role)
        try:
            body = json.dumps(prepared.body).encode()
            async with relay(socket, prepared.route, body, prepared.more_s) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, b"".join([piece async for piece in answer.body()]))
                yield answer
        except (EngineCrashed, EngineStalled):
            await asyncio.to_thread(model.children.end, prepared.role, socket)
            raise
    finally:
        place.give_back()


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def without_progress(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream without the events that tell how far the prompt is; they show us that the engine lives. They come
    first, so that from the first other event on the bytes are not looked at."""
    held = b""
    async for piece in pieces:
        held += piece
        while held.find(PROGRESS, 0, end := held.find(b"\n\n") + 2) >= 0:
            held = held[end:]
        if b"\n\n" in held:
            yield held
            break
    async for piece in pieces:
        yield piece


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The documents of a stream. Raises what the engine says went wrong."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                event: Event = json.loads(line[6:])
                if "error" in event:
                    raise refusal(event["error"].get("code", 500), line[6:])
                yield event


async def as_bytes(found: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in found:
        yield f"data: {json.dumps(event)}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def with_calls(found: AsyncIterator[Event], calls: CallReader) -> AsyncIterator[Event]:
    async for event in found:
        for told in calls.read(event):
            yield told
    for told in calls.rest():
        yield told


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


def gathered(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One document out of a stream's events, in the shape the worker gives to those who want it whole."""
    reasons = [reason for event in found if (reason := finish_reason(event))]
    reason = reasons[-1] if reasons else "stop"
    reply = gather([read_event(event, reason) for event in found])
    last = found[-1]
    chat = last["object"].startswith("chat")
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    choice |= {"message": _message(reply)} if chat else {"text": reply.text}
    if tokens := [token for event in found for token in _logprobs(event)]:
        choice["logprobs"] = {"content": tokens} if chat else legacy_logprobs(tokens)
    usage = next((event["usage"] for event in reversed(found) if event.get("usage")), None)
    return {
        "id": last["id"],
        "object": "chat.completion" if chat else "text_completion",
        "created": last["created"],
        "model": last["model"],
        "choices": [choice],
        "usage": usage
        and usage | reasoning_details(reduce(lambda before, event: heard(event, before), found, Usage())),
    }


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message |= {"content": reply.text or None, "tool_calls": list(reply.tool_calls)}
    return message


def _logprobs(event: dict[str, Any]) -> list[dict[str, Any]]:
    return (choice_of(event).get("logprobs") or {}).get("content") or []
