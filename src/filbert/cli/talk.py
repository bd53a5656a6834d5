"""A conversation under way in a terminal: its model, which may be changed, and what waits to be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filbert.cli.chat_answer import answer
from filbert.cli.console import hint, note, patience, say
from filbert.cli.loading import consent, present
from filbert.core.errors import Cancelled, FilbertError
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.chat.attach import Attachment
    from filbert.chat.conversation import Conversation
    from filbert.chat.session import Turn
    from filbert.face.model import Model


@dataclass
class Talk:
    """model: the one that answers; `with` closes it at the end."""

    model: Model
    conversation: Conversation
    load: LoadOptions
    settings: Settings
    plain: bool
    attachments: list[Attachment] = field(default_factory=list)  # they go with the next question
    said_unkept: str = field(default="", init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.model.close()

    def attach(self, file: Path) -> None:
        """A text or an image for the next question. Raises BadInput, ContextOverflow."""
        from filbert.chat.attach import attach

        self.attachments.append(attach(file, self.model))
        hint(f"[{self.attachments[-1].description}]", self.settings)

    def send(self, text: str) -> Turn:
        """A question, with what was attached to it. It stays attached when it cannot be asked."""
        turn = self.conversation.send(text, attachments=[each.part for each in self.attachments])
        self.attachments = []
        return turn

    def ask(self, start: Callable[[], Turn]) -> None:
        """Show an answer. Ctrl-C ends the answer and nothing else; what was said so far stays in the conversation."""
        turn = None
        try:
            turn = start()
            answer(turn, self.settings, self.plain)
        except KeyboardInterrupt:
            if turn:
                turn.cancel()
                turn.reply()
            note("(stopped)", self.settings)
        self._tell_unkept()
        if not self.plain:
            say()

    def show(self, turn: Turn) -> None:
        """An answer that is all a person wants; Ctrl-C ends us."""
        answer(turn, self.settings, self.plain)
        self._tell_unkept()

    def _tell_unkept(self) -> None:
        """Once, when the history can no longer be written."""
        if self.conversation.unkept != self.said_unkept:
            self.said_unkept = self.conversation.unkept
            note(self.said_unkept, self.settings)

    def use(self, name: str) -> None:
        """Another model for the same conversation. One that cannot be had or loaded leaves the old one. Raises
        Cancelled, which says so, when the person stops it."""
        try:
            self._change(name)
        except (Cancelled, KeyboardInterrupt) as exc:
            raise Cancelled(str(exc) or "Stopped.", why=f"{self.model.name} goes on answering.") from exc

    def _change(self, name: str) -> None:
        from filbert.face.model import Model

        stored = present(name, self.settings, self.load.threads, consent(self.settings, unasked_bytes=0))
        coming, before = Model.shared(stored, self.load), self.model
        coming.need("text")
        before.close()  # both at once may be too much for the machine
        try:
            with patience(f"loading {coming.name}", self.settings):
                coming.wait_until_loaded()
        except (FilbertError, KeyboardInterrupt):
            self._take(Model(before.stored, before.options))
            raise
        self._take(coming)

    def _take(self, model: Model) -> None:
        self.model = model
        self.conversation.use(model)


def last_turns(talk: Talk, count: int) -> Sequence[tuple[int, str, str]]:
    """Number, role and text of the last questions and answers."""
    path = list(enumerate(talk.conversation.path, 1))
    spoken = [(number, said) for number, said in path if said.message.role in ("user", "assistant")]
    return [(number, said.message.role, said.message.text) for number, said in spoken[-2 * count :]]
