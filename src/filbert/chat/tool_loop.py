"""An answer in which functions are called: the model calls, hears the result, and goes on until it answers."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from filbert.chat.tool_options import ToolOptions
from filbert.chat.tools import FunctionTool, as_text
from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.engine.generation import NOTHING, Answer, Chunk, Finish, Generation, Reply, Usage, message_of

Call = Mapping[str, Any]
LEAST_RESULT_CHARS = 64


class ToolLoop(Answer):
    """Rounds of an answer; each chunk that ends a call is followed by one with its result."""

    def __init__(
        self,
        functions: Mapping[str, FunctionTool],
        options: ToolOptions,
        ask: Callable[[str], Generation],
        keep: Callable[[Message, Reply | None], None],
        first: Generation | None = None,
        pending: Sequence[Call] = (),
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """ask: the next round, told whether it may call (auto) or not (none). keep: hears each message that was said
        before the last answer. first: the round under way. pending: calls to answer before, with `results` by id
        where the caller has them."""
        self._functions, self._options, self._ask, self._keep = functions, options, ask, keep
        self._round, self._pending, self._results = first, pending, results or {}
        self._last_finish = Finish("cancelled")
        self._before = Usage()  # of the rounds that are over
        self._cancelled = False
        self._woken = threading.Event()
        self._chunks = self._run()

    def __iter__(self) -> Iterator[Chunk]:
        try:
            yield from self._chunks
        finally:
            self._chunks.close()

    def so_far(self) -> Reply:
        """The round under way, or the last; what came before it was kept."""
        return self._round.so_far() if self._round else Reply("", replace(self._last_finish, reason="cancelled"))

    @property
    def usage(self) -> Usage:
        return self._before + (self._round.so_far().usage if self._round else Usage())

    def cancel(self) -> None:
        self._cancelled = True
        self._woken.set()
        if self._round:
            self._round.cancel()

    def _run(self) -> Generator[Chunk, None, None]:
        yield from self._answered(self._pending)
        for left in range(self._options.max_rounds, -1, -1):
            if self._cancelled:
                yield Chunk(finish=self.so_far().finish)
                return
            self._round = self._round or self._ask("auto" if left else "none")
            yield from self._heard(self._round)
            reply = self._round.so_far()
            if not self._calls_functions(reply):
                return
            self._round, self._last_finish = None, reply.finish
            self._before += reply.usage
            self._keep(message_of(reply), reply)
            yield from self._answered(reply.tool_calls)

    def _heard(self, generation: Generation) -> Iterator[Chunk]:
        """The chunks of a round; one that goes on with calls does not end the answer."""
        for chunk in generation:
            if chunk.finish and self._calls_functions(generation.so_far()):
                chunk = replace(chunk, finish=None)
            if chunk != NOTHING:
                yield chunk

    def _calls_functions(self, reply: Reply) -> bool:
        """Whether all that it calls can be called here."""
        called = {call["function"]["name"] for call in reply.tool_calls}
        return reply.finish.reason == "tool_calls" and called <= self._functions.keys()

    def _answered(self, calls: Sequence[Call]) -> Iterator[Chunk]:
        """A result for every call, also where the turn ends in the midst of them: a call alone has no meaning later."""
        left = list(calls)
        try:
            while left and not self._cancelled:
                result = self._result(left[0])
                left.pop(0)
                self._keep(result, None)
                yield Chunk(tool_results=(result,))
        finally:
            for call in left:
                self._keep(_told(call, _error("It was stopped before it had a result.")), None)

    def _result(self, call: Call) -> Message:
        if call["id"] in self._results:
            return _told(call, self._short(as_text(self._results[call["id"]])))
        function = self._functions[call["function"]["name"]]
        return _told(call, self._short(self._called(lambda: function.call(call["function"]["arguments"]))))

    def _called(self, work: Callable[[], str]) -> str:
        """What the work gives, its error, or that it takes too long: then its thread is left to itself, for Python has
        no way to end it."""
        found: list[str] = []
        woken = self._woken = threading.Event()  # a new one: what comes late must not wake the next call

        def run() -> None:
            try:
                found.append(work())
            except BaseException as exc:  # noqa: BLE001 - a person's function may raise anything; the model hears it
                found.append(_error(_described(exc)))
            finally:
                woken.set()

        if not self._cancelled:
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(run,), name="filbert-tool", daemon=True).start()
            woken.wait(self._options.timeout_s)
        if found:
            return found[0]
        late = f"There was no result within {self._options.timeout_s:g} s."
        return _error("It was stopped before it had a result." if self._cancelled else late)

    def _short(self, text: str) -> str:
        return _cut(text, self._options.max_result_chars)


def with_short_results(messages: Sequence[Message], fits: Callable[[list[Message]], bool]) -> list[Message]:
    """What a model is shown of a turn whose results are more than its context holds: the longest are cut, by half each
    time, until it fits or nothing is left to cut. How many tokens a text has is only known by counting."""
    limits = {at: len(message.text) for at, message in enumerate(messages) if message.role == "tool"}
    shown = list(messages)
    while limits and not fits(shown):
        longest = max(limits, key=limits.__getitem__)
        if limits[longest] <= LEAST_RESULT_CHARS:
            break
        limits[longest] //= 2
        shown[longest] = replace(messages[longest], content=_cut(messages[longest].text, limits[longest]))
    return shown


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n(The first {limit} of {len(text)} characters.)"


def need_results(calls: Sequence[Call], functions: Mapping[str, FunctionTool], results: Mapping[str, Any]) -> None:
    """Raises BadInput when the results that a caller gives are not those of the calls."""
    ids = {call["id"] for call in calls}
    if not ids:
        raise BadInput("The last answer calls nothing.", do="Say something with `send`.")
    if unknown := results.keys() - ids:
        raise BadInput(f"There is no call {min(unknown)}.", do="Give results by the ids of the last answer's calls.")
    for call in calls:
        name = call["function"]["name"]
        if call["id"] not in results and name not in functions:
            raise BadInput(f"The call of {name} has no result.", do="Give one by the call's id.")


def _told(call: Call, text: str) -> Message:
    text = text.encode("utf-8", "replace").decode()  # half of a pair would be refused in every later round
    return Message("tool", text, tool_call_id=call["id"], name=call["function"]["name"])


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a person's exception may fail at being told
        return type(error).__name__


def _error(text: str) -> str:
    return json.dumps({"error": text}, ensure_ascii=False)
