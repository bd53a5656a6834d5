"""What Anthropic's routes answer. `/openapi.json` is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import Field
from typing_extensions import TypedDict

from filbert.server.error_bodies import AnthropicErrorBody

StopReason = Literal["end_turn", "max_tokens", "tool_use", "stop_sequence"]


class ModelInfo(TypedDict):
    """A model, as clients are told that send `anthropic-version`."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]


class ModelsPage(TypedDict):
    """All of them: there is no second page."""

    data: list[ModelInfo]
    has_more: Literal[False]
    first_id: str | None
    last_id: str | None


class TokenCount(TypedDict):
    input_tokens: int


class SaidText(TypedDict):
    type: Literal["text"]
    text: str


class Thought(TypedDict):
    type: Literal["thinking"]
    thinking: str
    signature: Annotated[str, Field(description="Clients want one; it proves nothing.")]


class WantedTool(TypedDict):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


Block = Annotated[SaidText | Thought | WantedTool, Field(discriminator="type")]


class ThinkingCount(TypedDict):
    thinking_tokens: int


class MessageUsage(TypedDict):
    input_tokens: Annotated[int, Field(description="Of the prompt, without those that were remembered.")]
    cache_creation_input_tokens: int
    cache_read_input_tokens: Annotated[int, Field(description="Of the prompt, those that were remembered.")]
    output_tokens: int
    output_tokens_details: NotRequired[ThinkingCount]


class MessageAnswer(TypedDict):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Block]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageStart(TypedDict):
    type: Literal["message_start"]
    message: MessageAnswer


class Ping(TypedDict):
    """The prompt is being read."""

    type: Literal["ping"]


class BlockStart(TypedDict):
    type: Literal["content_block_start"]
    index: int
    content_block: Block


class TextDelta(TypedDict):
    type: Literal["text_delta"]
    text: str


class ThinkingDelta(TypedDict):
    type: Literal["thinking_delta"]
    thinking: str


class SignatureDelta(TypedDict):
    type: Literal["signature_delta"]
    signature: str


class InputDelta(TypedDict):
    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(TypedDict):
    type: Literal["content_block_delta"]
    index: int
    delta: Annotated[TextDelta | ThinkingDelta | SignatureDelta | InputDelta, Field(discriminator="type")]


class BlockStop(TypedDict):
    type: Literal["content_block_stop"]
    index: int


class Stopped(TypedDict):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(TypedDict):
    type: Literal["message_delta"]
    delta: Stopped
    usage: MessageUsage


class MessageStop(TypedDict):
    type: Literal["message_stop"]


MessageEvent: TypeAlias = Annotated[
    MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | AnthropicErrorBody,
    Field(discriminator="type"),
]
