"""A worker's answer as our own: a stream's bytes untouched, or put together for a client that did not ask for a stream.

Either way the gateway reads the worker as a stream, and a client that goes away closes it, which frees the slot.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from filbert.core.errors import EngineCrashed, EngineStalled, FilbertError
from filbert.engine.generation import NOTHING, Chunk, Reason, Reply, finish_reason, gather, read_event
from filbert.engine.model import Model, Prepared
from filbert.engine.relay import RelayedAnswer, relay
from filbert.engine.transport import refusal
from filbert.server.errors import error_body


class Relayed(Response):
    """Sends what the worker sends, as it comes."""

    def __init__(self, model: Model, prepared: Prepared) -> None:
        super().__init__()
        self._model, self._prepared = model, prepared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.create_task(self._answer(scope, receive, send))
        leaving = asyncio.create_task(_client_left(receive))
        done, pending = await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if answering in done:
            answering.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with _worker_answer(self._model, self._prepared) as answer:
            kind = answer.headers.get("content-type", "application/json")
            head = [(b"content-type", kind.encode()), (b"cache-control", b"no-cache")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            try:
                async for piece in answer.body():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except FilbertError as exc:  # the head is out: the stream itself must say it
                _forget_worker(self._model, self._prepared, exc)
                last = f"data: {json.dumps(error_body(exc))}\n\n".encode()
                await send({"type": "http.response.body", "body": last, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


class Gathered(Relayed):
    """Waits for the whole answer and sends it as one document."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with _worker_answer(self._model, self._prepared) as answer:
            document = await _gathered(answer)
        await JSONResponse(document)(scope, receive, send)


@asynccontextmanager
async def _worker_answer(model: Model, prepared: Prepared) -> AsyncIterator[RelayedAnswer]:
    place = model.admit(prepared)
    try:
        await asyncio.wrap_future(place.reached)
        socket = await asyncio.to_thread(model.socket, prepared.role)
        async with relay(socket, prepared.route, json.dumps(prepared.body).encode()) as answer:
            if answer.status != 200:
                raise refusal(answer.status, b"".join([piece async for piece in answer.body()]))
            yield answer
    except FilbertError as exc:
        _forget_worker(model, prepared, exc)
        raise
    finally:
        place.give_back()


def _forget_worker(model: Model, prepared: Prepared, error: FilbertError) -> None:
    if isinstance(error, EngineCrashed | EngineStalled):
        model.end_worker(prepared.role)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _gathered(answer: RelayedAnswer) -> dict[str, Any]:
    first: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    chunks: list[Chunk] = []
    reason: Reason = "stop"
    async for event in _events(answer):
        if "error" in event:
            raise refusal(event["error"].get("code", 500), json.dumps(event).encode())
        first = first or event
        reason = finish_reason(event) or reason
        usage = event.get("usage") or usage
        chunks.append(read_event(event, reason))
    reply = gather([chunk for chunk in chunks if chunk != NOTHING])
    chat = first["object"].startswith("chat")
    choice = {"index": 0, "finish_reason": reason, **(_message(reply) if chat else {"text": reply.text})}
    if reply.logprobs:
        choice["logprobs"] = {"content": [_logprob(item) for item in reply.logprobs]}
    return {
        "id": first["id"],
        "object": "chat.completion" if chat else "text_completion",
        "created": first["created"],
        "model": first["model"],
        "choices": [choice],
        "usage": usage,
    }


async def _events(answer: RelayedAnswer) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for piece in answer.body():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    return {"message": message}


def _logprob(item: Any) -> dict[str, Any]:
    def one(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return {**one(item.token, item.logprob), "top_logprobs": [one(*other) for other in item.top]}
