"""An answer in the shape of OpenAI's /v1/responses: items of thought, text and calls, one after the other."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from filbert.core.errors import Busy, FilbertError
from filbert.engine.generation import Chunk, Usage, heard, read_event, with_thought
from filbert.engine.model import Prepared
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, Reason, choice_of, finish_reason
from filbert.server.error_bodies import openai_error
from filbert.server.response import read
from filbert.server.response_items import ItemStatus, new_id

Document = dict[str, Any]
Keep = Callable[[Document], Awaitable[bool]]


class ResponsesShape:
    content_type = "text/event-stream"

    def __init__(self, told_again: Mapping[str, Any], calls: CallReader | None, keep: Keep) -> None:
        """told_again: what the response says of its request; keep: takes the whole response, and says whether it can
        be read again."""
        self.calls, self._keep = calls, keep
        self._growing = GrowingResponse(told_again)
        self._n_written = 0

    async def stream(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """pieces: with the events that tell how far the prompt is, so that a response begins before its first token."""
        async for event in read(pieces, self.calls):
            for told in self._growing.hear(event):
                yield self._written(told)
        for told in self._growing.end():
            yield self._written(told)
        document = await self.kept(self._growing.document())
        yield self._written({"type": f"response.{document['status']}", "response": document})

    def whole(self, found: Sequence[Event]) -> Document:
        for event in found:
            for _ in self._growing.hear(event):
                pass
        for _ in self._growing.end():
            pass
        return self._growing.document()

    async def kept(self, document: Document) -> Document:
        """The response, which now says whether it was kept."""
        return {**document, "store": await self._keep(document)}

    def failed(self, error: FilbertError) -> bytes:
        return self._written({"type": "response.failed", "response": self._growing.failed(error)})

    def _written(self, event: Document) -> bytes:
        told = json.dumps({"type": event["type"], "sequence_number": self._n_written, **event})
        self._n_written += 1
        return f"event: {event['type']}\ndata: {told}\n\n".encode()


class GrowingResponse:
    """Hears the events of an answer and tells what they mean in this protocol."""

    def __init__(self, told_again: Mapping[str, Any]) -> None:
        self._id, self._created = new_id("resp"), int(time.time())
        self._told_again = told_again
        self._model = ""
        self._usage = Usage()
        self._reason: Reason = "stop"
        self._items: list[GrowingItem] = []  # the last is open, the others are whole
        self._open = ""
        self._ended = False

    def hear(self, event: Event) -> Iterator[Document]:
        if not self._model:
            self._model = event["model"]
            yield {"type": "response.created", "response": self.document()}
            yield {"type": "response.in_progress", "response": self.document()}
        self._usage = heard(event, self._usage)
        self._reason = finish_reason(event) or self._reason
        chunk = with_thought(read_event(event, self._reason), self._usage)
        if chunk.finish:
            self._usage = chunk.finish.usage
        yield from self._grown(chunk, event)

    def end(self) -> Iterator[Document]:
        """Close the item that is open."""
        if self._items:
            yield from self._items[-1].end(self._status)
        self._ended = True

    def document(self) -> Document:
        """The response as far as it is."""
        short = self._ended and self._status == "incomplete"
        done = {"completed_at": int(time.time())} if self._ended and not short else {}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self._status if self._ended else "in_progress",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if short else None,
            "model": self._model,
            "output": [item.document() for item in self._items],
            "usage": counts(self._usage) if self._ended else None,
            **self._told_again,
            **done,
        }

    def failed(self, error: FilbertError) -> Document:
        if self._items and not self._ended:
            self._items[-1].status = "incomplete"
        problem = {"code": _code(error), "message": openai_error(error)["error"]["message"]}
        return {**self.document(), "status": "failed", "error": problem, "store": False}

    @property
    def _status(self) -> ItemStatus:
        return "incomplete" if self._reason == "length" else "completed"

    def _grown(self, chunk: Chunk, event: Event) -> Iterator[Document]:
        if chunk.reasoning:
            yield from self._within("thought", Thought)
            yield self._items[-1].grow(chunk.reasoning)
        if chunk.text:
            yield from self._within("text", Text)
            yield self._items[-1].grow(chunk.text, _logprobs(event))
        for piece in chunk.tool_calls:
            yield from self._within(f"call {piece['index']}", partial(Call, first=piece))
            if arguments := piece.get("function", {}).get("arguments"):
                yield self._items[-1].grow(arguments)

    def _within(self, name: str, make: Callable[[int], GrowingItem]) -> Iterator[Document]:
        if self._open != name:
            if self._items:
                yield from self._items[-1].end("completed")
            self._open = name
            self._items.append(make(len(self._items)))
            yield from self._items[-1].begin()


class GrowingItem(Protocol):
    """One item of an answer, whose methods tell the events of its life."""

    status: ItemStatus

    def begin(self) -> Iterator[Document]: ...
    def grow(self, piece: str, logprobs: Sequence[Document] = ()) -> Document: ...
    def end(self, status: ItemStatus) -> Iterator[Document]: ...
    def document(self) -> Document: ...


class Text:
    """A message of one part."""

    id_begins = "msg"
    fields: Mapping[str, Any] = {"type": "message", "role": "assistant"}
    part_type = "output_text"

    def __init__(self, index: int) -> None:
        """index: of the item in the response."""
        self.status: ItemStatus = "in_progress"
        self._id, self._index = new_id(self.id_begins), index
        self._pieces: list[str] = []
        self._logprobs: list[Document] = []

    def begin(self) -> Iterator[Document]:
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.document()}
        yield self._event("content_part.added", part=self._part(""))

    def grow(self, piece: str, logprobs: Sequence[Document] = ()) -> Document:
        self._pieces.append(piece)
        self._logprobs += logprobs
        return self._event(f"{self.part_type}.delta", delta=piece, **self._with_logprobs(logprobs))

    def end(self, status: ItemStatus) -> Iterator[Document]:
        self.status = status
        text = "".join(self._pieces)
        yield self._event(f"{self.part_type}.done", text=text, **self._with_logprobs(self._logprobs))
        yield self._event("content_part.done", part=self._part(text))
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.document()}

    def document(self) -> Document:
        content = [self._part("".join(self._pieces))] if self._pieces else []
        return {"id": self._id, **self.fields, "status": self.status, "content": content}

    def _part(self, text: str) -> Document:
        return {"type": self.part_type, "text": text, "annotations": [], "logprobs": self._logprobs if text else []}

    def _with_logprobs(self, logprobs: Sequence[Document]) -> Document:
        return {"logprobs": list(logprobs)}

    def _event(self, name: str, **more: Any) -> Document:
        place = {"item_id": self._id, "output_index": self._index, "content_index": 0}
        return {"type": f"response.{name}", **place, **more}


class Thought(Text):
    id_begins = "rs"
    fields = {"type": "reasoning", "summary": []}
    part_type = "reasoning_text"

    def _part(self, text: str) -> Document:
        return {"type": self.part_type, "text": text}

    def _with_logprobs(self, logprobs: Sequence[Document]) -> Document:
        return {}


class Call:
    """A call of a function, whose arguments grow."""

    def __init__(self, index: int, first: Mapping[str, Any]) -> None:
        """index: of the item in the response; first: the first piece of the call, which names the function."""
        self.status: ItemStatus = "in_progress"
        self._id, self._index = new_id("fc"), index
        self._call_id, self._name = first.get("id", ""), first.get("function", {}).get("name", "")
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Document]:
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.document()}

    def grow(self, piece: str, logprobs: Sequence[Document] = ()) -> Document:
        self._pieces.append(piece)
        return self._event("delta", delta=piece)

    def end(self, status: ItemStatus) -> Iterator[Document]:
        self.status = status
        yield self._event("done", name=self._name, arguments="".join(self._pieces))
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.document()}

    def document(self) -> Document:
        return {
            "id": self._id,
            "type": "function_call",
            "status": self.status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._pieces),
        }

    def _event(self, phase: str, **more: Any) -> Document:
        place = {"item_id": self._id, "output_index": self._index}
        return {"type": f"response.function_call_arguments.{phase}", **place, **more}


def counts(usage: Usage) -> Document:
    """Tokens; of the prompt's, those that were remembered are told apart."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _code(error: FilbertError) -> str:
    """OpenAI's clients know these."""
    if isinstance(error, Busy):
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.http_status < 500 else "server_error"


def _logprobs(event: Event) -> list[Document]:
    return (choice_of(event).get("logprobs") or {}).get("content") or []
