"""An answer in Ollama's shape: a JSON document a line, the last with its counts and times."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from filbert.core.errors import FilbertError
from filbert.engine.generation import CANCELLED, Chunk, Finish, Reply, TokenLogprob, gather, read_event
from filbert.engine.model import Prepared
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, Reason, finish_reason
from filbert.server.error_bodies import ollama_error
from filbert.server.response import read

LINES = "application/x-ndjson"
SAID_AS_STOP: tuple[Reason, ...] = ("tool_calls", "cancelled")
Put = Callable[[Reply], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """model: the name as the client wrote it; began: when, by the monotonic clock; load_s: until it was loaded."""

    model: str
    began: float
    load_s: float

    def document(self, **fields: Any) -> dict[str, Any]:
        return {"model": self.model, "created_at": timestamp(datetime.now(UTC)), **fields}

    def last(self, finish: Finish) -> dict[str, Any]:
        """What the end of an answer tells, durations in nanoseconds."""
        return {
            "done": True,
            "done_reason": "stop" if finish.reason in SAID_AS_STOP else finish.reason,
            **self.durations(),
            "prompt_eval_count": finish.usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(finish.timings.prompt_s),
            "eval_count": finish.usage.completion_tokens,
            "eval_duration": nanoseconds(finish.timings.generation_s),
        }

    def durations(self) -> dict[str, int]:
        since = time.monotonic() - self.began
        return {"total_duration": nanoseconds(since), "load_duration": nanoseconds(self.load_s)}


class OllamaShape:
    """put: what of an answer, or of a piece of one, stands in a document: `as_message` or `as_response`."""

    content_type = LINES

    def __init__(self, asked: Asked, put: Put, calls: CallReader | None = None) -> None:
        self._asked, self._put, self.calls = asked, put, calls

    async def stream(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Calls of tools are told once they are whole."""
        reason: Reason = "stop"
        ending: list[Chunk] = []
        async for event in read(pieces, self.calls):
            reason = finish_reason(event) or reason
            chunk = read_event(event, reason)
            if chunk.text or chunk.reasoning:
                yield line(self._asked.document(**self._put(_reply([chunk])), done=False))
            if chunk.tool_calls or chunk.finish:
                ending.append(Chunk(tool_calls=chunk.tool_calls, finish=chunk.finish))
        reply = _reply(ending)
        if reply.tool_calls:
            yield line(self._asked.document(**self._put(reply), done=False))
        yield line(self._asked.document(**self._put(Reply("", reply.finish)), **self._asked.last(reply.finish)))

    def whole(self, found: Sequence[Event]) -> dict[str, Any]:
        reasons = [reason for event in found if (reason := finish_reason(event))]
        reply = _reply([read_event(event, reasons[-1] if reasons else "stop") for event in found])
        return self._asked.document(**self._put(reply), **self._asked.last(reply.finish))

    def failed(self, error: FilbertError) -> bytes:
        return line(ollama_error(error))


def _reply(chunks: Sequence[Chunk]) -> Reply:
    """Where thought is counted the engine tells its end twice, and at last with all counts. Calls that were cut are
    not among it, for nobody could read their arguments."""
    reply = gather(chunks)
    finish = next((chunk.finish for chunk in reversed(chunks) if chunk.finish), CANCELLED)
    calls = reply.tool_calls if finish.reason == "tool_calls" else ()
    return Reply(reply.text, finish, reply.reasoning, reply.logprobs, calls)


def as_message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["thinking"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [_call(at, call) for at, call in enumerate(reply.tool_calls)]
    return {"message": message, **_logprobs(reply)}


def as_response(reply: Reply) -> dict[str, Any]:
    return {"response": reply.text, **({"thinking": reply.reasoning} if reply.reasoning else {}), **_logprobs(reply)}


def _call(index: int, call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.loads(call["function"]["arguments"] or "{}")
    return {"id": call["id"], "function": {"index": index, "name": call["function"]["name"], "arguments": arguments}}


def _logprobs(reply: Reply) -> dict[str, Any]:
    return {"logprobs": list(map(_logprob, reply.logprobs))} if reply.logprobs else {}


def _logprob(told: TokenLogprob) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in told.top]
    return {"token": told.token, "logprob": told.logprob, "top_logprobs": top}


def line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"


def timestamp(at: datetime) -> str:
    """As Go writes and reads it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def nanoseconds(duration_s: float) -> int:
    return round(duration_s * 1e9)
