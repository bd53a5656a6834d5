"""The record of a conversation, shared by the rooms that hold one and those that answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from filbert.core.errors import BadInput

IMAGE_ADDRESSES = ("data:image/png;base64,", "data:image/jpeg;base64,")
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in the shape that chat templates know. `content` is text, or parts where there are images."""

    role: Role
    content: str | tuple[Mapping[str, Any], ...] = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.content, str | tuple):
            raise BadInput(f"A message holds text, not {type(self.content).__name__}.", do="Give it as a string.")

    @property
    def text(self) -> str:
        """The text of it, without images."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")

    @property
    def letters(self) -> int:
        """Of its texts, and of images as they are kept."""
        parts = () if isinstance(self.content, str) else self.content
        addresses = (_address(part) for part in parts)
        return len(self.text) + len(self.reasoning) + sum(map(len, addresses))

    @property
    def has_images(self) -> bool:
        return not isinstance(self.content, str) and any(map(_is_image, self.content))

    def to_json(self) -> dict[str, Any]:
        """The message in OpenAI's chat shape, without its thought."""
        body: dict[str, Any] = {"role": self.role, "content": self._content()}
        if self.tool_calls:
            body["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id:
            body["tool_call_id"] = self.tool_call_id
        if self.name:
            body["name"] = self.name
        return body

    def _content(self) -> str | list[dict[str, Any]]:
        """Parts of text alone are one text, for not every template knows parts. Raises BadInput for a part that is no
        text and no image of core/images.py: the engine would fetch addresses."""
        if isinstance(self.content, str):
            return self.content
        parts = [dict(part) for part in self.content]
        if not all(_is_text(part) or _is_image(part) for part in parts):
            raise BadInput(
                "A message holds texts and images, and something else is in it.",
                do="Give an image as `send(text, images=[path])` does.",
            )
        return parts if any(map(_is_image, parts)) else "\n\n".join(part["text"] for part in parts)


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def _is_image(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "image_url" and _address(part).startswith(IMAGE_ADDRESSES)


def _address(part: Mapping[str, Any]) -> str:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else None
    return url if isinstance(url, str) else ""


def shown(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation as a model sees it: the thought of earlier turns is left out, and in the turn under way calls of
    tools keep the thought that led to them, for which some chat templates have a place."""
    last = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    return [
        message.to_json() | ({"reasoning_content": message.reasoning} if at > last and _led_to_calls(message) else {})
        for at, message in enumerate(messages)
    ]


def _led_to_calls(message: Message) -> bool:
    return bool(message.reasoning and message.tool_calls)


def turns(messages: Iterable[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Split into the leading system messages and whole turns. A turn begins with a user's message, so that an
    answer stays with its question and a tool's result with the call that asked for it."""
    head: list[Message] = []
    rest: list[list[Message]] = []
    for message in messages:
        if message.role == "system" and not rest:
            head.append(message)
        elif message.role == "user" or not rest:
            rest.append([message])
        else:
            rest[-1].append(message)
    return head, rest


def flatten(head: Sequence[Message], rest: Iterable[Sequence[Message]]) -> list[Message]:
    return [*head, *(message for turn in rest for message in turn)]
