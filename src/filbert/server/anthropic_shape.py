"""An answer in Anthropic's shape: content blocks of thought, text and calls, one after the other."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from filbert.core.errors import BadAnswer, FilbertError
from filbert.engine.generation import Chunk, Reply, Usage, gather, heard, read_event, with_thought
from filbert.engine.model import Prepared
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, Reason, finish_reason
from filbert.models.store import StoredModel
from filbert.server.answers_anthropic import ModelInfo, ModelsPage
from filbert.server.error_bodies import anthropic_error
from filbert.server.response import read
from filbert.server.upstreams.model import RemoteModel

STOP_REASONS: Mapping[Reason, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
SIGNATURE = base64.b64encode(b"nothing to verify").decode()  # clients throw a thought without one away
UNKNOWN_DATE = "1970-01-01T00:00:00Z"


class AnthropicShape:
    content_type = "text/event-stream"

    def __init__(self, calls: CallReader | None, shows_thought: bool) -> None:
        """shows_thought: or the text of its block stays empty."""
        self.calls, self._shows_thought = calls, shows_thought

    async def stream(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """pieces: with the events that tell how far the prompt is. They become pings."""
        told, blocks = Told(), Blocks(self._shows_thought)
        async for event in read(pieces, self.calls):
            begins = not told.id
            chunk = told.hear(event)
            if begins:
                yield written("message_start", message=told.message([]))
            if "prompt_progress" in event:
                yield written("ping")
            for fields in blocks.of(chunk):
                yield written(**fields)
        for fields in blocks.end():
            yield written(**fields)
        yield written("message_delta", delta=told.stop(), usage=told.counts())
        yield written("message_stop")

    def whole(self, found: Sequence[Event]) -> dict[str, Any]:
        told = Told()
        reply = gather([told.hear(event) for event in found])
        return told.message(list(self._content(reply))) | told.stop()

    def _content(self, reply: Reply) -> Iterator[dict[str, Any]]:
        if reply.reasoning:
            thought = reply.reasoning if self._shows_thought else ""
            yield {"type": "thinking", "thinking": thought, "signature": SIGNATURE}
        if reply.text:
            yield {"type": "text", "text": reply.text}
        if reply.finish.reason == "tool_calls":  # of calls that were cut nobody could read the arguments
            for call in reply.tool_calls:
                yield tool_use(call) | {"input": arguments_of(call)}

    def failed(self, error: FilbertError) -> bytes:
        return written(**anthropic_error(error))


class Told:
    """What the events of an answer tell beside its content."""

    def __init__(self) -> None:
        self.id = self._model = ""
        self._usage = Usage()
        self._reason: Reason = "stop"
        self._stop_word = ""

    def hear(self, event: Event) -> Chunk:
        self.id, self._model = event["id"].replace("chatcmpl-", "msg_"), event["model"]
        self._usage = heard(event, self._usage)
        self._reason = finish_reason(event) or self._reason
        self._stop_word = event.get("__verbose", {}).get("stopping_word") or self._stop_word
        chunk = with_thought(read_event(event, self._reason), self._usage)
        if chunk.finish:
            self._usage = chunk.finish.usage
        return chunk

    def message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.counts(),
        }

    def stop(self) -> dict[str, Any]:
        """Why the answer ended."""
        if self._reason == "stop" and self._stop_word:
            return {"stop_reason": "stop_sequence", "stop_sequence": self._stop_word}
        return {"stop_reason": STOP_REASONS[self._reason], "stop_sequence": None}

    def counts(self) -> dict[str, Any]:
        """Tokens. Of the prompt, those that were remembered stand beside the others."""
        usage = self._usage
        thought = {"thinking_tokens": usage.reasoning_tokens}
        return {
            "input_tokens": usage.prompt_tokens - usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.completion_tokens,
            **({"output_tokens_details": thought} if usage.reasoning_tokens else {}),
        }


class Blocks:
    """The content blocks of a stream, of which one is open at a time."""

    def __init__(self, shows_thought: bool) -> None:
        self._shows_thought = shows_thought
        self._index = 0
        self._open = ""

    def of(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """The events that a piece of the answer becomes."""
        if chunk.reasoning:
            yield from self._within("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            if self._shows_thought:
                yield self._delta("thinking_delta", thinking=chunk.reasoning)
        if chunk.text:
            yield from self._within("text", {"type": "text", "text": ""})
            yield self._delta("text_delta", text=chunk.text)
        for piece in chunk.tool_calls:
            yield from self._within(f"call {piece['index']}", tool_use(piece))
            if arguments := piece.get("function", {}).get("arguments"):
                yield self._delta("input_json_delta", partial_json=arguments)

    def end(self) -> Iterator[dict[str, Any]]:
        """Close the block that is open."""
        if self._open == "thinking":
            yield self._delta("signature_delta", signature=SIGNATURE)
        if self._open:
            yield {"type": "content_block_stop", "index": self._index}
            self._index += 1
            self._open = ""

    def _within(self, name: str, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if self._open != name:
            yield from self.end()
            self._open = name
            yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, type: str, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": {"type": type, **fields}}


def tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    """call: whole, or its first piece."""
    name = call.get("function", {}).get("name", "")
    return {"type": "tool_use", "id": f"toolu_{call.get('id', '').removeprefix('call_')}", "name": name, "input": {}}


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Raises BadAnswer for what is no JSON object."""
    try:
        arguments = json.loads(call["function"]["arguments"] or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise BadAnswer(
            f"The model called {call['function']['name']} with arguments that are no JSON object.", do="Ask again."
        )
    return arguments


def written(type: str, **fields: Any) -> bytes:
    """An event of a stream."""
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


def models_page(found: Sequence[StoredModel | RemoteModel]) -> ModelsPage:
    """All of them: there is no second page."""
    data = [model_info(each) for each in found]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}


def model_info(found: StoredModel | RemoteModel) -> ModelInfo:
    pulled, label = (found.pulled, "") if isinstance(found, StoredModel) else ("", " (remote)")
    return {
        "type": "model",
        "id": found.name,
        "display_name": found.name + label,
        "created_at": pulled or UNKNOWN_DATE,
        "lifecycle": "active",
    }
