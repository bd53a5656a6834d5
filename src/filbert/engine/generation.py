"""What a model says, as it says it: chunks, then one finish that holds every count and time."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from filbert.core.messages import Message
from filbert.engine.admission import Place
from filbert.engine.tool_calls import CallReader
from filbert.engine.transport import Event, Exchange, Reason, choice_of, finish_reason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached_tokens` of the prompt were remembered from before and not computed again; `reasoning_tokens` of
    the completion went into the thought."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds and tokens a second, by the engine's own clock."""

    prompt_s: float = 0.0
    generation_s: float = 0.0
    prompt_tps: float = 0.0
    generation_tps: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    reason: Reason
    usage: Usage = Usage()
    timings: Timings = Timings()


CANCELLED = Finish("cancelled")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its log-probability in nats; `top` holds the likeliest others, `id` its number in the vocabulary."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    id: int = -1


@dataclass(frozen=True, slots=True)
class Chunk:
    text: str = ""
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[dict[str, Any], ...] = ()  # in pieces: the first names the function, others add arguments
    tool_results: tuple[Message, ...] = ()  # what came back, where a session calls them itself
    finish: Finish | None = None  # in the last chunk only


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    text: str
    finish: Finish
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[dict[str, Any], ...] = ()

    @property
    def usage(self) -> Usage:
        return self.finish.usage

    @property
    def timings(self) -> Timings:
        return self.finish.timings

    def __str__(self) -> str:
        return self.text


class Answer(ABC):
    """An answer under way. Iterate it for chunks, or ask for `reply()`, which waits for the rest."""

    @abstractmethod
    def __iter__(self) -> Iterator[Chunk]: ...

    @abstractmethod
    def so_far(self) -> Reply:
        """What was said until now; its finish is `cancelled` while the answer is under way."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop from any thread; what was said so far stays, and the finish says `cancelled`."""

    def reply(self) -> Reply:
        for _ in self:
            pass
        return self.so_far()

    @property
    def usage(self) -> Usage:
        """What it took until now; of an answer in several rounds their sum, where its `finish` tells of the last."""
        return self.so_far().usage

    @property
    def text(self) -> str:
        return self.reply().text

    def __str__(self) -> str:
        return self.text


class Generation(Answer):
    """An answer as the engine gives it."""

    def __init__(
        self, ask: Callable[[], Place], send: Callable[[Place], Exchange], calls: CallReader | None = None
    ) -> None:
        """Nothing is asked of the engine before the first chunk is. calls: who reads the calls of tools in it."""
        self._ask, self._send, self._calls = ask, send, calls
        self._place: Place | None = None
        self._exchange: Exchange | None = None
        self._cancelled = False
        self._chunks: list[Chunk] = []
        self._heard = Usage()  # until the engine tells its own counts
        self._source = self._run()

    def __iter__(self) -> Iterator[Chunk]:
        """Leaving the loop early stops the answer."""
        try:
            for chunk in self._source:
                self._chunks.append(chunk)
                yield chunk
        except GeneratorExit:
            self._source.close()
            raise

    def so_far(self) -> Reply:
        return gather(self._chunks, Finish("cancelled", self._heard))

    def cancel(self) -> None:
        self._cancelled = True
        if self._exchange:
            self._exchange.cancel()
        elif self._place:
            self._place.give_back()

    def _run(self) -> Generator[Chunk, None, None]:
        finished = False
        events: Iterator[Event] = iter(())
        reason: Reason = "stop"  # the engine tells why it ended one event before it tells the counts
        self._place = self._ask()
        try:
            if not self._cancelled and self._place.wait():
                self._exchange = self._send(self._place)
                if self._cancelled:
                    self._exchange.cancel()
                for event in (events := iter(self._exchange)):
                    self._place.begun = True
                    for told in self._told(event):
                        reason = finish_reason(told) or reason
                        chunk = with_thought(read_event(told, reason), self._heard)
                        finished = finished or chunk.finish is not None
                        if chunk != NOTHING:
                            yield chunk
            if not finished:
                if self._calls:
                    yield from (read_event(event, reason) for event in self._calls.rest())
                yield Chunk(finish=Finish("cancelled", self._heard))
        finally:
            if self._exchange and not finished:
                self._exchange.cancel()
                for _ in events:  # to its end: only then is its share of the context free
                    pass
            self._place.give_back()

    def _told(self, event: Event) -> Iterable[Event]:
        self._heard = heard(event, self._heard)
        return self._calls.read(event) if self._calls else (event,)


class AsyncGeneration:
    """The same for `async for` and `await`: one reader thread feeds the event loop."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._generation: Answer | None = None
        self._cancelled = False

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()

        def say(item: Chunk | BaseException | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(arrived.put_nowait, item)

        def read() -> None:
            try:
                self._generation = self._make()
                if self._cancelled:
                    self._generation.cancel()
                for chunk in self._generation:
                    say(chunk)
                say(None)
            except BaseException as exc:  # noqa: BLE001 - carried to the waiting coroutine, which raises it
                say(exc)

        threading.Thread(target=read, name="filbert-async-read", daemon=True).start()
        try:
            while (item := await arrived.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.cancel()

    def __await__(self) -> Generator[Any, None, Reply]:
        return self._reply().__await__()

    async def _reply(self) -> Reply:
        if self._generation is None:
            async for _ in self:
                pass
        assert self._generation is not None
        return self._generation.reply()

    def cancel(self) -> None:
        self._cancelled = True
        if self._generation:
            self._generation.cancel()


def gather(chunks: Sequence[Chunk], unfinished: Finish = CANCELLED) -> Reply:
    """The chunks as one answer; `unfinished` ends it when none of them does."""
    return Reply(
        text="".join(chunk.text for chunk in chunks),
        reasoning="".join(chunk.reasoning for chunk in chunks),
        logprobs=tuple(item for chunk in chunks for item in chunk.logprobs),
        tool_calls=_joined_calls(chunks),
        finish=next((chunk.finish for chunk in chunks if chunk.finish), unfinished),
    )


def message_of(reply: Reply) -> Message:
    """A reply as a message; calls that were cut are not among it, for nobody could read their arguments."""
    calls = reply.tool_calls if reply.finish.reason == "tool_calls" else ()
    return Message("assistant", reply.text, reasoning=reply.reasoning, tool_calls=calls)


def said_by(reply: Reply) -> list[Message]:
    """A reply as a message; none when nothing was said."""
    message = message_of(reply)
    return [message] if message.text or message.tool_calls else []


NOTHING = Chunk()


def heard(event: Event, before: Usage) -> Usage:
    """What is known of the counts after an event: each that says something is a token, unless it tells how many there
    were. A thought is counted with the mark that begins it."""
    if progress := event.get("prompt_progress"):
        return replace(before, prompt_tokens=progress["total"], cached_tokens=progress["cache"])
    choice = choice_of(event)
    delta = choice.get("delta", {})
    said = any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls")) or choice.get("text")
    told = event["timings"].get("predicted_n", 0) if "timings" in event else 0
    tokens = max(told, before.completion_tokens + bool(said))
    thought = tokens - before.completion_tokens if delta.get("reasoning_content") else 0
    return replace(before, completion_tokens=tokens, reasoning_tokens=before.reasoning_tokens + thought)


def with_thought(chunk: Chunk, heard: Usage) -> Chunk:
    """The last chunk with the tokens of the thought, which the engine does not tell."""
    if chunk.finish is None or not heard.reasoning_tokens:
        return chunk
    usage = replace(chunk.finish.usage, reasoning_tokens=heard.reasoning_tokens)
    return replace(chunk, finish=replace(chunk.finish, usage=usage))


def read_event(event: Event, reason: Reason) -> Chunk:
    """A chunk from an event of /v1/chat/completions or /v1/completions; progress events are NOTHING."""
    choice = choice_of(event)
    delta = choice.get("delta", {})
    return Chunk(
        text=delta.get("content") or choice.get("text") or "",
        reasoning=delta.get("reasoning_content") or "",
        logprobs=_logprobs(choice.get("logprobs")),
        tool_calls=tuple(delta.get("tool_calls") or ()),
        finish=_finish(event, reason) if _is_last(event) else None,
    )


def _is_last(event: Event) -> bool:
    """The last tells the times; where thought is counted, every event does."""
    return "timings" in event and (not event.get("choices") or finish_reason(event) is not None)


def _finish(event: Event, reason: Reason) -> Finish:
    usage, timings = event.get("usage") or {}, event["timings"]
    cached = timings.get("cache_n", 0)
    return Finish(
        reason=reason,
        usage=Usage(
            prompt_tokens=usage.get("prompt_tokens", timings.get("prompt_n", 0) + cached),
            completion_tokens=usage.get("completion_tokens", timings.get("predicted_n", 0)),
            cached_tokens=cached,
        ),
        timings=Timings(
            prompt_s=timings["prompt_ms"] / 1e3,
            generation_s=timings["predicted_ms"] / 1e3,
            prompt_tps=timings["prompt_per_second"] or 0.0,
            generation_tps=timings["predicted_per_second"] or 0.0,
        ),
    )


def _logprobs(found: dict[str, Any] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            item["token"],
            item["logprob"],
            tuple((other["token"], other["logprob"]) for other in item.get("top_logprobs", ())),
            item.get("id", -1),
        )
        for item in (found or {}).get("content") or ()
    )


def _joined_calls(chunks: Sequence[Chunk]) -> tuple[dict[str, Any], ...]:
    """Tool calls arrive in pieces: the first names the function, the rest append to its arguments."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in (piece for chunk in chunks for piece in chunk.tool_calls):
        call = calls.setdefault(
            piece["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = call["id"] or piece.get("id", "")
        for key in ("name", "arguments"):
            call["function"][key] += piece.get("function", {}).get(key) or ""
    return tuple(calls[index] for index in sorted(calls))
