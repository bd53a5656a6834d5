"""A worker's answer on its way to a client, in the shape of the client's protocol.

The gateway always reads the worker as a stream, and a client that goes away closes it, which frees the slot.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from filbert.core.errors import Cancelled, FilbertError
from filbert.engine.model import Prepared
from filbert.engine.pool import Loan
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, refusal
from filbert.engine.waiting import WouldWait, at_once
from filbert.server.lent import Answering, Lent
from filbert.server.measured import measured_of, tapped
from filbert.server.patience import in_time, unless_left
from filbert.server.serve_options import ServeOptions

PROGRESS = b'"prompt_progress":{'  # inside a string its quotes would be escaped


class Shape(Protocol):
    """How a protocol writes an answer. content_type: of its streams; calls: who reads the calls of tools in it."""

    content_type: str
    calls: CallReader | None

    def stream(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The worker's bytes, events of a chat or a completion, as the protocol's."""

    def whole(self, found: Sequence[Event]) -> Any:
        """All events as one document."""

    def failed(self, error: FilbertError) -> bytes:
        """The end of a stream that broke off: its head is out, so that the stream has to say it."""


class Streamed(Response):
    """Sends what the worker writes, as it comes."""

    def __init__(self, loan: Loan[Lent], prepare: Callable[[], Prepared], shape: Shape) -> None:
        """loan: the model, given back when the answer is over; prepare: what to send to it, which may take a second."""
        super().__init__()
        self._loan, self._prepare, self._shape = loan, prepare, shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(Cancelled):
                await unless_left(receive, self._answer(scope, receive, send))
        finally:
            self._loan.give_back()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, measured, since = False, measured_of(scope), time.monotonic()
        try:
            async with _asked(scope, self._loan.model, self._prepare) as (prepared, answer):
                pieces = self._pieces(tapped(answer.body(), measured))
                async for piece in self._shape.stream(prepared, pieces):
                    if measured.first_s is None and measured.completion_tokens:
                        measured.first_s = time.monotonic() - since
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": self._head})
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except FilbertError as exc:
            if not begun:
                raise
            await send({"type": "http.response.body", "body": self._shape.failed(exc), "more_body": True})
        self._loan.give_back()  # whoever has read the end finds a model gone that was not to stay
        await send({"type": "http.response.body", "body": b""})

    def _pieces(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return without_progress(pieces)

    @property
    def _head(self) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", self._shape.content_type.encode()), (b"cache-control", b"no-cache")]


class StreamedWithProgress(Streamed):
    """Lets the shape hear how far the prompt is."""

    def _pieces(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return pieces


class Gathered(Streamed):
    """Waits for the whole answer and sends it as one document."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with _asked(scope, self._loan.model, self._prepare) as (_, answer):
            pieces = tapped(answer.body(), measured_of(scope))
            document = self._shape.whole([event async for event in read(pieces, self._shape.calls)])
        self._loan.give_back()
        await JSONResponse(await self._finished(document))(scope, receive, send)

    async def _finished(self, document: Any) -> Any:
        """What is done with the document before it is sent."""
        return document


@asynccontextmanager
async def _asked(
    scope: Scope, model: Lent, prepare: Callable[[], Prepared]
) -> AsyncIterator[tuple[Prepared, Answering]]:
    """The worker's answer under way, once there is room for it and it is the client's turn. Raises what the engine
    refuses, Busy, DeadlinePassed, NotReady where the server ends first."""
    measured_of(scope).model = model.name
    async with in_time(scope):
        prepared = await _prepared(model, prepare)
        place = model.admit(prepared, owner_of(scope), queue_of(scope))
        try:
            await place.reach()
            async with model.answering(prepared.at(place)) as answer:
                place.begun = True
                yield prepared, answer
        finally:
            place.give_back()


async def _prepared(model: Lent, prepare: Callable[[], Prepared]) -> Prepared:
    """Most requests take less than the way to a thread and back."""
    try:
        with at_once():
            return prepare()
    except WouldWait:
        return await model.waited(prepare)


def owner_of(scope: Scope) -> str:
    """Whose turn a request takes: the key it came with."""
    key: str | None = scope.get("state", {}).get("key")
    return key or ""


def queue_of(scope: Scope) -> int:
    """How many may wait for a model."""
    options: ServeOptions = scope["app"].state.options
    return options.queue


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


def read(pieces: AsyncIterator[bytes], calls: CallReader | None) -> AsyncIterator[Event]:
    """The events of a stream, with the calls of tools that stand in its text."""
    found = events(pieces)
    return with_calls(found, calls) if calls else found


async def with_calls(found: AsyncIterator[Event], calls: CallReader) -> AsyncIterator[Event]:
    async for event in found:
        for told in calls.read(event):
            yield told
    for told in calls.rest():
        yield told
