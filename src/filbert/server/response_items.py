"""Items of a conversation as OpenAI's clients write them to /v1/responses: messages, calls, results, thoughts.

Dumped, an item is what clients are told of it later; read again, it is the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, TypeAdapter, ValidationInfo, field_validator

from filbert.core.messages import Message, turns
from filbert.server.bodies import Body, ImageUrl, Pictured

BETWEEN_TEXTS = "\n\n"
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def new_id(kind: str) -> str:
    """resp_…, msg_…: nobody can guess it."""
    return f"{kind}_{secrets.token_hex(24)}"


def _id(kind: str) -> Callable[[], str]:
    return lambda: new_id(kind)


class InputText(Body):
    type: Literal["input_text"]
    text: str


class OutputText(Body):
    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], AfterValidator(lambda given: [])] = Field(default_factory=list)


class Refusal(Body):
    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class InputImage(Pictured):
    type: Literal["input_image"]
    image_url: ImageUrl
    detail: Literal["low", "high", "auto", "original"] = "auto"

    @property
    def url(self) -> str:
        return self.image_url

    def holding(self, url: str) -> Self:
        return self.model_copy(update={"image_url": url})


ContentPart = Annotated[InputText | OutputText | Refusal | InputImage, Field(discriminator="type")]
TextPart = Annotated[InputText | OutputText, Field(discriminator="type")]


class MessageItem(Body):
    type: Literal["message"] = "message"
    id: str = Field(default_factory=_id("msg"))
    status: ItemStatus = "completed"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart]

    @field_validator("content")
    @classmethod
    def _in_parts(cls, content: str | list[ContentPart], known: ValidationInfo) -> list[ContentPart]:
        if not isinstance(content, str):
            return content
        if known.data.get("role") == "assistant":
            return [OutputText(type="output_text", text=content)]
        return [InputText(type="input_text", text=content)]

    @property
    def by_model(self) -> bool:
        return self.role == "assistant"

    @property
    def parts(self) -> Sequence[ContentPart]:
        return [] if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if not isinstance(part, InputImage))

    def message(self) -> Message:
        """Decodes images, which may take a second. Raises BadInput."""
        role = "system" if self.role == "developer" else self.role
        if any(isinstance(part, InputImage) for part in self.parts):
            return Message(role, tuple(map(_chat_part, self.parts)))
        return Message(role, self.text)


def _chat_part(part: ContentPart) -> dict[str, Any]:
    return part.part() if isinstance(part, InputImage) else {"type": "text", "text": part.text}


class CallItem(Body):
    type: Literal["function_call"]
    id: str = Field(default_factory=_id("fc"))
    status: ItemStatus = "completed"
    call_id: str
    name: str
    arguments: str

    @property
    def by_model(self) -> bool:
        return True

    def call(self) -> dict[str, Any]:
        return {
            "id": self.call_id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


class ResultItem(Body):
    type: Literal["function_call_output"]
    id: str = Field(default_factory=_id("fco"))
    status: ItemStatus = "completed"
    call_id: str
    output: str | list[TextPart]

    @property
    def by_model(self) -> bool:
        return False

    def message(self) -> Message:
        text = self.output if isinstance(self.output, str) else "".join(part.text for part in self.output)
        return Message("tool", text, tool_call_id=self.call_id)


class SummaryText(Body):
    type: Literal["summary_text"]
    text: str


class ReasoningText(Body):
    type: Literal["reasoning_text"]
    text: str


class ThoughtItem(Body):
    """What another server encrypted in it, that one alone can read."""

    type: Literal["reasoning"]
    id: str = Field(default_factory=_id("rs"))
    status: ItemStatus = "completed"
    summary: list[SummaryText] = Field(default_factory=list)
    content: list[ReasoningText] = Field(default_factory=list)

    @property
    def by_model(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content) or BETWEEN_TEXTS.join(part.text for part in self.summary)


def _kind(given: Any) -> Any:
    """Messages need not say what they are."""
    return given.get("type", "message") if isinstance(given, dict) else getattr(given, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ThoughtItem, Tag("reasoning")],
    Discriminator(
        _kind,
        custom_error_type="item",
        custom_error_message="this server knows items of the types message, function_call, function_call_output and "
        "reasoning",
    ),
]
ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def conversation(instructions: str, items: Sequence[Item]) -> list[Message]:
    """What a model is told. What it said itself in a row is one message, and so is what it is told first. Decodes
    images, which may take a second. Raises BadInput."""
    told = [Message("system", instructions)] if instructions else []
    for by_model, group in groupby(items, key=lambda item: item.by_model):
        told += (said if by_model else asked)(list(group))
    head, _ = turns(told)
    if len(head) > 1:  # many templates know one system message, at the beginning
        told = [Message("system", BETWEEN_TEXTS.join(message.text for message in head)), *told[len(head) :]]
    return told


def asked(items: Sequence[Item]) -> Iterator[Message]:
    """What a model is told by others: messages and results."""
    return (item.message() for item in items if isinstance(item, MessageItem | ResultItem))


def said(items: Sequence[Item]) -> Iterator[Message]:
    """An answer, of which calls that were cut are no part: nobody could read their arguments."""
    text = BETWEEN_TEXTS.join(item.text for item in items if isinstance(item, MessageItem))
    calls = tuple(item.call() for item in items if isinstance(item, CallItem) and item.status == "completed")
    thought = "".join(item.text for item in items if isinstance(item, ThoughtItem))
    if text or calls:
        yield Message("assistant", text, reasoning=thought, tool_calls=calls)
