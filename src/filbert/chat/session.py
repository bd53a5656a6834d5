"""A conversation with a model: it remembers, and when the context is full it forgets whole turns, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from filbert.core.conversation import Message, flatten, turns
from filbert.core.errors import BadInput
from filbert.core.settings import configured
from filbert.engine.generation import AsyncGeneration, Chunk, Finish, Generation, Reply
from filbert.engine.model import Model, prompt_bound
from filbert.engine.sampling import Sampling

Overflow = Literal["drop_oldest", "error"]
KEEP_SHARE = 0.75  # forget down to here, so that the next turns find their prompt in the cache again


class Turn:
    """One answer of a session under way; what was said is kept, also when it is cancelled."""

    def __init__(self, session: ChatSession, generation: Generation, forgotten_turns: int) -> None:
        self._session, self._generation = session, generation
        self.forgotten_turns = forgotten_turns  # left out of this prompt for want of room

    def __iter__(self) -> Iterator[Chunk]:
        try:
            yield from self._generation
        finally:
            self._session._keep(self, self._generation.so_far())

    def reply(self) -> Reply:
        for _ in self:
            pass
        return self._generation.so_far()

    @property
    def text(self) -> str:
        return self.reply().text

    def __str__(self) -> str:
        return self.text

    def cancel(self) -> None:
        self._generation.cancel()


class ChatSession:
    def __init__(
        self, model: Model, *, system: str = "", overflow: Overflow = "drop_oldest", sampling: Sampling | None = None
    ) -> None:
        self.model = model
        self.overflow = overflow
        self.sampling = sampling or configured(Sampling)
        self.messages: list[Message] = [Message("system", system)] if system else []
        self.last_finish: Finish | None = None
        self._turn: Turn | None = None
        self._forgotten = 0

    def send(self, text: str, sampling: Sampling | None = None) -> Turn:
        """Say something; iterate the turn for the answer. Raises ContextOverflow when this turn alone is too long."""
        if self._turn:
            raise BadInput("The last answer is still under way.", do="Read it to its end or cancel it.")
        return self._answer([*self.messages, Message("user", text)], sampling or self.sampling)

    def asend(self, text: str, sampling: Sampling | None = None) -> AsyncGeneration:
        return AsyncGeneration(lambda: self.send(text, sampling))

    def regenerate(self) -> Turn:
        """Answer the last question anew."""
        messages = list(self.messages)
        while messages and messages[-1].role != "user":
            messages.pop()
        if not messages:
            raise BadInput("There is nothing to answer again.", do="Say something first.")
        return self._answer(messages, self.sampling)

    def reset(self) -> None:
        """Forget the conversation; the system message stays."""
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

    def _answer(self, messages: list[Message], sampling: Sampling) -> Turn:
        prompt = self._within_context(messages, sampling) if self.overflow == "drop_oldest" else messages
        self._turn = Turn(self, self.model.respond(prompt, sampling), self._forgotten)
        self.messages = messages
        return self._turn

    def _keep(self, turn: Turn, reply: Reply) -> None:
        if turn is not self._turn:
            return
        self._turn = None
        self.last_finish = reply.finish
        if reply.text or reply.tool_calls:
            self.messages.append(
                Message("assistant", reply.text, reasoning=reply.reasoning, tool_calls=reply.tool_calls)
            )
        else:  # nothing was said: the question can be asked again
            self.messages.pop()

    def _within_context(self, messages: list[Message], sampling: Sampling) -> list[Message]:
        """The messages without the oldest turns that do not fit; system message and last turn always stay."""
        head, rest = turns(messages)
        answer = sampling.max_tokens or min(1024, self.model.context // 4)
        self._forgotten = min(self._forgotten, len(rest) - 1)
        kept = flatten(head, rest[self._forgotten :])
        if (
            prompt_bound(kept) + answer <= self.model.context
            or self.model.count_tokens(kept) + answer <= self.model.context
        ):
            return kept
        room = int(self.model.context * KEEP_SHARE) - answer
        self._forgotten = self._first_that_fits(head, rest, room)
        return flatten(head, rest[self._forgotten :])

    def _first_that_fits(self, head: list[Message], rest: list[list[Message]], room: int) -> int:
        """Bisection over how many turns to forget: each count renders the chat template once."""
        low, high = self._forgotten + 1, len(rest) - 1
        while low < high:
            middle = (low + high) // 2
            if self.model.count_tokens(flatten(head, rest[middle:])) <= room:
                high = middle
            else:
                low = middle + 1
        return max(high, 0)
