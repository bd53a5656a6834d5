"""Our own JSON: whole chats with all branches, thoughts, tool calls and images. What it holds can be imported again.

{"format": "filbert-chats", "version": 1, "chats": [{"id": …, "messages": [{"number": 1, "parent": null, …}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from filbert.chat.record import Chat, Said, kept_moment
from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.core.sha256 import WHOLE_OR_NONE

FORMAT, VERSION = "filbert-chats", 1
HEAD = {"format": FORMAT, "version": VERSION}


Time = Annotated[datetime, AfterValidator(kept_moment)]


class Loose(BaseModel):
    """What others may have written more of."""

    model_config = ConfigDict(extra="allow")


class FunctionBody(Loose):
    name: str
    arguments: str = ""


class CallBody(Loose):
    id: str
    type: Literal["function"] = "function"
    function: FunctionBody


class TextPart(Loose):
    type: Literal["text"]
    text: str


class ImageAddress(Loose):
    url: str = Field(pattern=r"^data:[^,]{0,100};base64,")


class ImagePart(Loose):
    type: Literal["image_url"]
    image_url: ImageAddress


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class MessageBody(BaseModel):
    number: int
    parent: int | None = None
    role: Literal["system", "user", "assistant", "tool"]
    content: str | tuple[Part, ...] = ""
    reasoning: str = ""
    tool_calls: tuple[CallBody, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    model: str = ""
    model_sha256: str = Field("", pattern=WHOLE_OR_NONE)
    sampling: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    finish: str = Field("", max_length=32)
    created: Time
    key: str = Field(min_length=1)
    notes: dict[str, Any] = {}


class ChatBody(BaseModel):
    id: str = Field(pattern=r"^([0-9a-z]{8}|[0-9a-z]{14})$")  # the longer ones are of before
    title: str = ""
    model: str = ""
    system: str = ""
    created: Time
    updated: Time
    leaf: int | None = None
    source: str = ""
    messages: list[MessageBody] = []


def as_json(chats: Iterable[Chat]) -> Iterator[str]:
    """The file in pieces, a chat each."""
    yield json.dumps(HEAD)[:-1] + ', "chats": ['
    for place, chat in enumerate(chats):
        yield (",\n" if place else "\n") + json.dumps(body(chat), ensure_ascii=False, allow_nan=False)
    yield "\n]}\n"


def body(chat: Chat) -> dict[str, Any]:
    """Messages are counted from 1, so that a chat is the same wherever it was imported."""
    places: dict[int | None, int] = {number: place for place, number in enumerate(sorted(chat.said), 1)}
    own = {name: getattr(chat, name) for name in ("id", "title", "model", "system", "source")}
    times = {"created": chat.created.isoformat(), "updated": chat.updated.isoformat()}
    told = [_message(chat.said[number], places) for number in sorted(chat.said)]
    return {**own, **times, "leaf": places.get(chat.leaf), "messages": told}


def _message(said: Said, places: Mapping[int | None, int]) -> dict[str, Any]:
    whole = asdict(said)
    message = whole.pop("message")
    numbers = {"number": places[said.number], "parent": places.get(said.parent)}
    return {**message, **whole, **numbers, "created": said.created.isoformat()}


def chat_of(given: object) -> Chat:
    """Raises BadInput for what is no chat of this format."""
    try:
        told = ChatBody.model_validate(given)
    except ValidationError as exc:
        problem = max(exc.errors(), key=lambda error: len(error["loc"]))  # the nearest, where a value may be of kinds
        where = ".".join(map(str, problem["loc"])) or "it"
        raise BadInput(
            "A chat in the file cannot be read.", why=f"{where}: {problem['msg']}.", do="Export it again."
        ) from exc
    chat = Chat(**told.model_dump(exclude={"messages"}))
    for message in told.messages:
        if message.number in chat.said or (message.parent is not None and message.parent not in chat.said):
            raise BadInput(
                "A chat in the file cannot be read.",
                why="A message stands before the one it answers.",
                do="Export it again.",
            )
        chat.said[message.number] = _said(message)
    chat.title = " ".join(chat.title.split())
    chat.leaf = chat.leaf if chat.leaf in chat.said else max(chat.said, default=None)
    return chat


def _said(told: MessageBody) -> Said:
    spoken = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name")
    whole = told.model_dump()
    message = Message(**{name: whole.pop(name) for name in spoken})
    return Said(message, **whole)
