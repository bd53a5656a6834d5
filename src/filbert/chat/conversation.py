"""A conversation with branches, which the history keeps while it goes on.

The question is stored before it is answered and the answer while it is written. When the history cannot be written the
conversation goes on without it, and `unkept` says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from filbert.chat.record import UNFINISHED, UNTITLED, Chat, Said, now, title_of
from filbert.chat.session import ChatSession, Turn, question
from filbert.chat.tools import Function
from filbert.core.errors import BadInput, DiskFull, HistoryDamaged, StoreBusy, StoreReadOnly
from filbert.core.images import Picture
from filbert.core.messages import Message
from filbert.engine.generation import Chunk, Reply, message_of
from filbert.engine.model import Model
from filbert.engine.sampling import Sampling
from filbert.engine.tools import Tool

if TYPE_CHECKING:
    from filbert.chat.history import History

WRITE_EVERY_S = 0.5
Part = Mapping[str, Any]


class Conversation(ChatSession):
    """A ChatSession whose every message has a number, from 1; the system message has none."""

    model: Model

    def __init__(
        self,
        model: Model,
        history: History | None = None,
        chat: str | Chat | None = None,
        system: str = "",
        sampling: Sampling | None = None,
        tools: Iterable[Tool | Function] = (),
    ) -> None:
        """chat: one to go on with, or its id; `system` takes the place of its system message. Raises BadInput."""
        super().__init__(model, system=system, sampling=sampling, tools=tools)
        self._asked_with = self.sampling
        self.history = history
        self.unkept = ""  # why nothing is kept any more, for a person
        self._chat = Chat(model=model.name, system=system)
        self._path: list[Said] = []
        self._begun = False  # whether the history knows this chat
        self._speaking: Said | None = None  # the answer under way, once something of it was said
        self._wrote_at = 0.0  # seconds, by the monotonic clock
        if chat is not None:
            self.load(chat)
            if system:
                self.system = system

    @property
    def chat_id(self) -> str:
        """ "" before the first question."""
        return self._chat.id if self._path or self._chat.said else ""

    @property
    def chat(self) -> Chat:
        """All of it, with every branch."""
        return self._chat

    @property
    def title(self) -> str:
        return self._chat.title or UNTITLED

    @title.setter
    def title(self, title: str) -> None:
        self._chat.title = title
        self._store(lambda history: history.rename(self._chat.id, title))

    def load(self, chat: str | Chat) -> None:
        """Go on with a chat where it stands; this model answers from now on. Raises BadInput."""
        self._need_rest()
        if isinstance(chat, str):
            if self.history is None:
                raise BadInput("No history is kept.", do="Leave out --no-history.")
            chat = self.history.chat(chat)
        self._chat, self._begun = chat, self.history is not None
        self._stand(chat.path(chat.leaf))
        self.use(self.model)

    @property
    def system(self) -> str:
        return self._chat.system

    @system.setter
    def system(self, text: str) -> None:
        self._chat.system = text
        self._stand(self._path)
        self._store(lambda history: history.set_system(self._chat.id, text))

    def use(self, model: Model) -> None:
        """Go on with another model; what was said stays."""
        self._need_rest()
        self.model, self._forgotten = model, 0
        self._chat.model = model.name
        self._store(lambda history: history.set_model(self._chat.id, model.name))

    def reset(self) -> None:
        """Begin a new chat under the same system message; the one before stays in the history."""
        super().reset()
        self._chat = Chat(model=self.model.name, system=self.system)
        self._path, self._begun = [], False

    def send(
        self,
        text: str,
        sampling: Sampling | None = None,
        images: Iterable[Picture] = (),
        attachments: Iterable[Part] = (),
    ) -> Turn:
        """Say something; iterate the turn for the answer. A question that was never answered gives way to it.
        attachments: content parts, {"type": "text", …} or {"type": "image_url", …}, as `attach` makes them.
        Raises ContextOverflow when this turn alone is too long."""
        self._need_rest()
        return self._ask(self._answered(), question(text, images, attachments), sampling)

    def edit(self, number: int, text: str) -> Turn:
        """Ask another question in the place of this one, in a branch of its own. Raises BadInput."""
        self._need_rest()
        edited = self._at(number)
        if edited.message.role != "user":
            raise BadInput(f"Message {number} is no question.", do="Name one that you asked.")
        kept = _parts(edited.message)[:-1]  # what was attached; the question itself stands last
        return self._ask(self._path[: number - 1], question(text, attachments=kept), None)

    def branches(self, number: int) -> list[Said]:
        """What was said in the place of a message, the oldest first; it is one of them."""
        return self._chat.siblings(self._at(number).number)

    def branch(self, number: int, which: int | None = None) -> None:
        """Go on from message `number`: what comes after it stays in a branch of its own. With `which`, from 1, switch
        to that one of its `branches`, and to the end of it. Raises BadInput."""
        self._need_rest()
        if which is None:
            self._move(self._chat.path(self._at(number).number))
            return
        siblings = self.branches(number)
        if not 1 <= which <= len(siblings):
            raise BadInput(f"Message {number} has {len(siblings)} branches.", do="Name one of them, from 1.")
        self._move(self._chat.path(self._chat.newest_leaf(siblings[which - 1].number)))

    @property
    def path(self) -> list[Said]:
        """What was said on this branch, with models, times and counts."""
        return list(self._path)

    def _at(self, number: int) -> Said:
        if not 1 <= number <= len(self._path):
            raise BadInput(f"There is no message {number}.", do=f"This branch has {len(self._path)}.")
        return self._path[number - 1]

    def _answered(self) -> list[Said]:
        """The path without a question at its end that nobody answered."""
        return self._path[:-1] if self._path and self._path[-1].message.role == "user" else self._path

    def _ask(self, before: Sequence[Said], asking: Message, sampling: Sampling | None) -> Turn:
        head = self.messages[:1] if self.system else []
        asked = [*head, *(said.message for said in before), asking]
        return self._answer(asked, sampling or self.sampling)

    def _move(self, path: list[Said]) -> None:
        self._stand(path)
        self._store(lambda history: history.stand_at(self._chat.id, self._chat.leaf))

    def _stand(self, path: list[Said]) -> None:
        """Let the conversation be this path; one system message stands before it, whatever an import brought."""
        self._chat.leaf = path[-1].number if path else None
        for said in path:
            if said.message.role == "system" and not self._chat.system:
                self._chat.system = said.message.text
        self._path, self._forgotten = [said for said in path if said.message.role != "system"], 0
        head = [Message("system", self._chat.system)] if self._chat.system else []
        self.messages = [*head, *(said.message for said in self._path)]

    # as an answer comes

    def _answer(self, messages: list[Message], sampling: Sampling) -> Turn:
        turn = super()._answer(messages, sampling)
        self._asked_with = sampling
        self._follow()
        return turn

    def _hear(self, chunk: Chunk) -> None:
        super()._hear(chunk)
        if self._turn and (chunk.text or chunk.reasoning):  # a call is kept once it is whole
            if self._speaking is None:
                self._speaking = self._put(self._by_model(message_of(self._turn.so_far())))
            elif time.monotonic() - self._wrote_at > WRITE_EVERY_S:
                self._speaking = self._change(replace(self._speaking, message=message_of(self._turn.so_far())))
            else:
                return
            self._wrote_at = time.monotonic()

    def _keep(self, reply: Reply) -> None:
        super()._keep(reply)
        self._follow(reply)

    def _keep_round(self, message: Message, reply: Reply | None) -> None:
        super()._keep_round(message, reply)
        self._follow(reply)

    def _follow(self, reply: Reply | None = None) -> None:
        """Bring the path and the history to what `messages` says."""
        said = self.messages[1:] if self.system else self.messages
        same = 0
        while same < min(len(said), len(self._path)) and said[same] is self._path[same].message:
            same += 1
        self._stand_at(self._path[:same])
        for message in said[same:]:
            self._path.append(self._known(message) or self._told(message, reply))
        if self._speaking and reply:  # nothing of it was kept in the session: a thought that was cut
            self._change(self._finished(replace(self._speaking, message=message_of(reply)), reply))
            self._speaking = None
        self._stand_at(self._path)

    def _known(self, message: Message) -> Said | None:
        """The message where it was said already: an answer without a word leads back to the branch before it."""
        after = (said for said in self._chat.said.values() if said.parent == self._last())
        return next((said for said in after if said.message is message), None)

    def _told(self, message: Message, reply: Reply | None) -> Said:
        """A message that is new in the session, in the tree."""
        if message.role != "assistant" or reply is None:
            return self._put(Said(message, self._last()))
        if self._speaking is None:
            return self._put(self._finished(self._by_model(message), reply))
        said = self._finished(replace(self._speaking, message=message, parent=self._last()), reply)
        self._speaking = None
        return self._change(said)

    def _by_model(self, message: Message) -> Said:
        model, sampling = self.model, self._asked_with.model_dump(exclude_defaults=True, mode="json")
        sha256 = model.stored.sha256 if model.stored.hashes else ""  # one without is not hashed now
        return Said(message, self._last(), 0, model.name, sha256, sampling, finish=UNFINISHED)

    def _finished(self, said: Said, reply: Reply) -> Said:
        finish = reply.finish
        return replace(said, usage=asdict(finish.usage), timings=asdict(finish.timings), finish=finish.reason)

    def _last(self) -> int | None:
        return self._path[-1].number if self._path else None

    # into the tree, and into the history

    def _put(self, said: Said) -> Said:
        if not self._chat.title:
            self._chat.title = title_of([said.message])
        stored = self._store_new(said) or replace(said, number=max(self._chat.said, default=0) + 1)
        self._chat.said[stored.number] = stored
        self._chat.leaf, self._chat.updated = stored.number, now()
        return stored

    def _change(self, said: Said) -> Said:
        self._chat.said[said.number] = said
        self._store(lambda history: history.update(self._chat.id, said))
        return said

    def _stand_at(self, path: list[Said]) -> None:
        self._path = path
        if self._chat.leaf != self._last():
            self._chat.leaf = self._last()
            self._store(lambda history: history.stand_at(self._chat.id, self._chat.leaf))

    def _store_new(self, said: Said) -> Said | None:
        if self.history and not self._begun:
            self._chat.system = self.system
            self._kept(lambda history: history.begin(replace(self._chat, leaf=None, said={})))
            self._begun = self.history is not None
        stored: Said | None = self._kept(lambda history: history.add(self._chat.id, said))
        return stored

    def _store(self, write: Callable[[History], None]) -> None:
        if self._begun:
            self._kept(write)

    def _kept(self, write: Callable[[History], Any]) -> Any:
        """What a write gives; None without a history. One that fails is the last."""
        if self.history is None:
            return None
        try:
            return write(self.history)
        except (DiskFull, StoreReadOnly, StoreBusy, HistoryDamaged) as exc:
            self.unkept = f"What is said from here on is not kept: {exc}"
            self.history, self._begun = None, False
            return None


def _parts(message: Message) -> Sequence[Part]:
    return message.content if isinstance(message.content, tuple) else ()
