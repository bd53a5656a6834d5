"""A conversation with a model: it remembers, and when the context is full it forgets whole turns, and says so."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from filbert.chat.tool_loop import ToolLoop, need_results, with_short_results
from filbert.chat.tool_options import ToolOptions
from filbert.chat.tools import Function, tools_of
from filbert.core.errors import BadInput, ContextOverflow
from filbert.core.images import Picture, image_part
from filbert.core.messages import Message, flatten, turns
from filbert.core.settings import configured
from filbert.engine.generation import Answer, AsyncGeneration, Chunk, Finish, Generation, Reply, Usage, said_by
from filbert.engine.sampling import Sampling
from filbert.engine.tools import NO_TOOLS, Tool, ToolUse, tool_use
from filbert.models.header import Header

Overflow = Literal["drop_oldest", "error"]
SETTLE_S = 5.0
KEEP_SHARE = 0.75  # forget down to here, so that the next turns find their prompt in the cache again


class Answering(Protocol):
    """What a session asks of a model; `engine/model.py` says what each does."""

    @property
    def context(self) -> int: ...
    @property
    def header(self) -> Header: ...
    def respond(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        tools: Iterable[Tool] = (),
        tool_choice: str = "auto",
    ) -> Generation: ...
    def prompt_bound(self, messages: Sequence[Message], use: ToolUse = NO_TOOLS) -> int: ...
    def count_tokens(self, messages: Sequence[Message], use: ToolUse = NO_TOOLS) -> int: ...


class Turn(Answer):
    """One answer of a session under way; what was said is kept, also when it is cancelled."""

    def __init__(self, session: ChatSession, generation: Answer, forgotten_turns: int) -> None:
        self._session, self._generation = session, generation
        self.forgotten_turns = forgotten_turns  # left out of this prompt for want of room
        self.over = threading.Event()
        self._begun = False

    def __iter__(self) -> Iterator[Chunk]:
        self._begun = True
        try:
            for chunk in self._generation:
                self._session._hear(chunk)
                yield chunk
        finally:
            self._end()

    def so_far(self) -> Reply:
        return self._generation.so_far()

    @property
    def usage(self) -> Usage:
        return self._generation.usage

    @property
    def cut_short(self) -> str:
        """Why the answer was cut, for a person; "" when it was not."""
        model, finish = self._session.model, self.so_far().finish
        if finish.reason != "length":
            return ""
        if finish.usage.prompt_tokens + finish.usage.completion_tokens < model.context:
            return "The answer was cut at its token limit."
        trained = model.header.context_length
        more = "" if trained and model.context >= trained else "; a larger --context holds more"
        return f"The answer was cut: the context of {model.context} tokens is full{more}."

    def cancel(self) -> None:
        self._generation.cancel()
        if not self._begun:
            self._end()

    def _end(self) -> None:
        if not self.over.is_set():
            self._session._keep(self._generation.so_far())
            self.over.set()


def question(text: str, images: Iterable[Picture] = (), attachments: Iterable[Mapping[str, Any]] = ()) -> Message:
    """A user's message. attachments: parts of `chat/attach.py`; they and the images come before the text."""
    if isinstance(images, str | bytes) or not isinstance(images, Iterable):
        raise BadInput("Images are a list.", do="Write images=[image].")
    parts = (*attachments, *map(image_part, images))
    return Message("user", (*parts, {"type": "text", "text": text}) if parts else text)


class ChatSession:
    """Say something with `send`, one answer at a time; what was said stands in `messages`.

    Functions among `tools` are called for the model, as ToolOptions bound it. One that is only described ends the turn
    with its call in `reply.tool_calls`; `answer_calls` goes on from there. tool_choice: auto, none, required, or the
    name of a tool; after the first round of a turn the model may call and need not."""

    def __init__(
        self,
        model: Answering,
        *,
        system: str = "",
        overflow: Overflow = "drop_oldest",
        sampling: Sampling | None = None,
        tools: Iterable[Tool | Function] = (),
        tool_choice: str = "auto",
    ) -> None:
        self.model = model
        self.overflow = overflow
        self.sampling = sampling or configured(Sampling)
        self.tools, self._functions = tools_of(tools)
        self.tool_choice = tool_choice
        self.messages: list[Message] = [Message("system", system)] if system else []
        self.last_finish: Finish | None = None
        self._before: list[Message] = []
        self._turn: Turn | None = None
        self._forgotten = 0

    def send(self, text: str, sampling: Sampling | None = None, images: Iterable[Picture] = ()) -> Turn:
        """Say something; iterate the turn for the answer. images: paths, files' bytes or Pillow's images, for a model
        that sees. Raises ContextOverflow when this turn alone is too long, and BadInput for an image it cannot see."""
        self._need_rest()
        return self._answer([*self.messages, question(text, images)], sampling or self.sampling)

    def asend(self, text: str, sampling: Sampling | None = None, images: Iterable[Picture] = ()) -> AsyncGeneration:
        return AsyncGeneration(lambda: self._send_after_last(text, sampling, images))

    def _send_after_last(self, text: str, sampling: Sampling | None, images: Iterable[Picture]) -> Turn:
        if turn := self._turn:
            turn.over.wait(SETTLE_S)  # an `async for` that was left early ends a moment later
        return self.send(text, sampling, images)

    def regenerate(self) -> Turn:
        """Answer the last question anew."""
        self._need_rest()
        messages = list(self.messages)
        while messages and messages[-1].role != "user":
            messages.pop()
        if not messages:
            raise BadInput("There is nothing to answer again.", do="Say something first.")
        return self._answer(messages, self.sampling)

    def answer_calls(self, results: Mapping[str, Any]) -> Turn:
        """Go on after an answer that called tools without a function: `results` by the ids of its calls, as text or as
        what JSON can hold. Raises BadInput."""
        self._need_rest()
        calls = self.messages[-1].tool_calls if self.messages else ()
        need_results(calls, self._functions, results)
        self._before = list(self.messages)
        return self._begin(self._loop(self.sampling, pending=calls, results=results))

    def reset(self) -> None:
        """Forget the conversation; the system message stays."""
        self._need_rest()
        self.messages = [message for message in self.messages[:1] if message.role == "system"]
        self._forgotten = 0

    @property
    def system(self) -> str:
        first = self.messages[0] if self.messages else None
        return str(first.content) if first and first.role == "system" else ""

    @system.setter
    def system(self, text: str) -> None:
        rest = self.messages[1:] if self.system else self.messages
        self.messages = [Message("system", text), *rest] if text else list(rest)

    def _need_rest(self) -> None:
        if self._turn:
            raise BadInput("The last answer is still under way.", do="Read it to its end or cancel it.")

    def _answer(self, messages: list[Message], sampling: Sampling) -> Turn:
        first = self._round(messages, sampling, self.tool_choice)
        self._before, self.messages = self.messages, messages
        return self._begin(self._loop(sampling, first) if self.tools else first)

    def _begin(self, answer: Answer) -> Turn:
        self._turn = Turn(self, answer, self._forgotten)
        return self._turn

    def _round(self, messages: list[Message], sampling: Sampling, choice: str) -> Generation:
        """Ask the model, with what fits of the conversation."""
        use = tool_use(self.tools, choice)
        head, rest = turns(messages)
        forgotten = self._to_forget(head, rest, sampling, use) if self.overflow == "drop_oldest" else 0
        shown = flatten(head, rest[forgotten:])
        if self.overflow == "drop_oldest" and forgotten == len(rest) - 1:  # only then it may be too long still
            room = self.model.context - self._answer_room(sampling)
            shown = with_short_results(shown, lambda messages: self._fits(messages, room, use))
        generation = self.model.respond(shown, sampling, self.tools, choice)
        self._forgotten = forgotten
        return generation

    def _loop(self, sampling: Sampling, first: Generation | None = None, **answering: Any) -> ToolLoop:
        def ask(choice: str) -> Generation:
            return self._round(self.messages, sampling, choice)

        return ToolLoop(self._functions, configured(ToolOptions), ask, self._keep_round, first=first, **answering)

    def _keep_round(self, message: Message, reply: Reply | None) -> None:
        """What was said before the last answer of a turn: a reply that calls functions, or a result."""
        self.messages.append(message)
        self._before = list(self.messages)

    def _hear(self, chunk: Chunk) -> None:
        """Each piece of an answer, as it comes; a conversation that is kept writes it down."""

    def _keep(self, reply: Reply) -> None:
        self._turn = None
        self.last_finish = reply.finish
        if said := said_by(reply):
            self.messages += said
        else:  # nothing was said: as if it had not been asked
            self.messages = self._before

    def _to_forget(self, head: list[Message], rest: list[list[Message]], sampling: Sampling, use: ToolUse) -> int:
        """How many of the oldest turns are left out; the system message and the last turn always stay."""
        answer = self._answer_room(sampling)
        forgotten = min(self._forgotten, len(rest) - 1)
        kept = flatten(head, rest[forgotten:])
        if self._fits(kept, self.model.context - answer, use):
            return forgotten
        return self._first_that_fits(head, rest, forgotten, int(self.model.context * KEEP_SHARE) - answer, use)

    def _answer_room(self, sampling: Sampling) -> int:
        """Tokens kept free for what the model says."""
        return min(sampling.max_tokens or 1024, self.model.context // 4)

    def _first_that_fits(
        self, head: list[Message], rest: list[list[Message]], forgotten: int, room: int, use: ToolUse
    ) -> int:
        """Bisection over how many turns to forget: each count renders the chat template once."""
        low, high = forgotten + 1, len(rest) - 1
        while low < high:
            middle = (low + high) // 2
            if self._fits(flatten(head, rest[middle:]), room, use):
                high = middle
            else:
                low = middle + 1
        return max(high, 0)

    def _fits(self, messages: list[Message], room: int, use: ToolUse) -> bool:
        """Counted only where the bound is not enough; a history too long to be counted does not fit."""
        try:
            return any(size(messages, use) <= room for size in (self.model.prompt_bound, self.model.count_tokens))
        except ContextOverflow:
            return False
