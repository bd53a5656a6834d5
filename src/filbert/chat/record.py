"""What is kept of a conversation: a tree of what was said. Storage, terminal, import and export share this record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from filbert.core.messages import Message

UNFINISHED = "unfinished"  # the finish of an answer under way; one that is found later was cut by a crash
TITLE_LETTERS = 60
UNTITLED = "Untitled"
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: none looks like another
EPOCH, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
ID_DIGITS = 8  # all by chance: people tell chats apart by the first three or four


def now() -> datetime:
    return datetime.now(UTC)


def kept_moment(moment: datetime) -> datetime:
    """In UTC, which it is where it names no zone, and within years that can be told in every zone."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment, EPOCH), LAST).astimezone(UTC)


def new_id() -> str:
    """Eight letters and digits, 40 bits of chance."""
    return "".join(DIGITS[byte & 31] for byte in os.urandom(ID_DIGITS))


@dataclass(frozen=True, slots=True)
class Said:
    """One message in the tree of a chat. `parent` is the number of the message before it, None at the beginning."""

    message: Message
    parent: int | None = None
    number: int = 0  # the history's own, unique; 0 before it is stored
    model: str = ""
    model_sha256: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)  # tokens
    timings: Mapping[str, Any] = field(default_factory=dict)  # seconds, tokens a second
    finish: str = ""  # why an answer ended; UNFINISHED when nobody ended it
    created: datetime = field(default_factory=now)
    key: str = field(default_factory=new_id)  # its own within the chat; an import finds it again by this
    notes: Mapping[str, Any] = field(default_factory=dict)  # what came along: documents an answer cites, files

    @property
    def was_cut(self) -> bool:
        return self.finish == UNFINISHED


@dataclass(slots=True)
class Chat:
    """A conversation with all its branches. `leaf` is the message at which it stands."""

    id: str = field(default_factory=new_id)
    title: str = ""
    model: str = ""
    system: str = ""
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)
    leaf: int | None = None
    source: str = ""  # where it was imported from; importing it again finds it by this
    said: dict[int, Said] = field(default_factory=dict)

    @property
    def letters(self) -> int:
        """About as many bytes of memory as its texts and images take."""
        return sum(said.message.letters for said in self.said.values())

    def path(self, leaf: int | None) -> list[Said]:
        """From the first message to `leaf`."""
        found: list[Said] = []
        while leaf in self.said and len(found) < len(self.said):  # a damaged history may lead nowhere, or in a ring
            found.append(self.said[leaf])
            leaf = found[-1].parent
        return found[::-1]

    def siblings(self, number: int) -> list[Said]:
        """The message and those said in its place, oldest first."""
        parent = self.said[number].parent
        return sorted((said for said in self.said.values() if said.parent == parent), key=lambda said: said.number)

    def newest_leaf(self, number: int) -> int:
        """The end of the newest branch that goes through a message."""
        newest: dict[int | None, int] = {}
        for said in sorted(self.said.values(), key=lambda said: said.number):
            newest[said.parent] = said.number
        while number in newest:
            number = newest.pop(number)
        return number


@dataclass(frozen=True, slots=True)
class Summary:
    """A chat in a list."""

    id: str
    title: str
    model: str
    messages: int
    updated: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """A chat in which words were found; the snippet marks them as [word]."""

    chat: str
    title: str
    role: str
    snippet: str
    updated: datetime


def title_of(messages: Iterable[Message]) -> str:
    """The beginning of the first question."""
    for message in messages:
        if message.role == "user" and (words := " ".join(message.text[:1000].split())):
            if len(words) <= TITLE_LETTERS:
                return words
            return words[:TITLE_LETTERS].rsplit(" ", 1)[0] + "…"
    return UNTITLED
