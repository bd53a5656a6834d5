"""What the routes of /v1/responses answer. `/openapi.json` is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import Field
from typing_extensions import TypedDict

from filbert.server.answers import TokenLogprobs
from filbert.server.response_items import Item, ItemStatus


class TextOut(TypedDict):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprobs]


class ThoughtOut(TypedDict):
    type: Literal["reasoning_text"]
    text: str


class MessageOut(TypedDict):
    type: Literal["message"]
    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[TextOut]


class ReasoningOut(TypedDict):
    type: Literal["reasoning"]
    id: str
    status: ItemStatus
    summary: list[Any]
    content: list[ThoughtOut]


class CallOut(TypedDict):
    type: Literal["function_call"]
    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


ItemOut = Annotated[MessageOut | ReasoningOut | CallOut, Field(discriminator="type")]


class InputDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    reasoning_tokens: int


class ResponseUsage(TypedDict):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseProblem(TypedDict):
    code: Literal["rate_limit_exceeded", "invalid_prompt", "server_error"]
    message: str


class WhyIncomplete(TypedDict):
    reason: Literal["max_output_tokens"]


class EffortAgain(TypedDict):
    effort: str | None
    summary: None


class FormatAgain(TypedDict):
    type: Literal["text", "json_object", "json_schema"]
    name: NotRequired[str]
    schema: NotRequired[dict[str, Any] | None]


class TextAgain(TypedDict):
    format: FormatAgain


class ToolAgain(TypedDict):
    type: Literal["function"]
    name: str
    description: NotRequired[str]
    parameters: NotRequired[dict[str, Any]]
    strict: NotRequired[bool | None]


class ResponseDocument(TypedDict):
    """An answer, with what was asked for."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: NotRequired[int]
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: ResponseProblem | None
    incomplete_details: WhyIncomplete | None
    model: str
    output: list[ItemOut]
    usage: ResponseUsage | None
    store: NotRequired[Annotated[bool, Field(description="Whether it was kept, and can be read again.")]]
    background: Literal[False]
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: EffortAgain
    temperature: float | None
    text: TextAgain
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any]
    tools: list[ToolAgain]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["auto", "disabled"]


class DeletedResponse(TypedDict):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(TypedDict):
    object: Literal["list"]
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ResponseEventBase(TypedDict):
    sequence_number: int


class ResponseGrown(ResponseEventBase):
    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseDocument


class ItemGrown(ResponseEventBase):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: ItemOut


class InItem(ResponseEventBase):
    item_id: str
    output_index: int


class InPart(InItem):
    content_index: int


class PartGrown(InPart):
    type: Literal["response.content_part.added", "response.content_part.done"]
    part: Annotated[TextOut | ThoughtOut, Field(discriminator="type")]


class OutputTextDelta(InPart):
    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[TokenLogprobs]


class OutputTextDone(InPart):
    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[TokenLogprobs]


class ReasoningTextDelta(InPart):
    type: Literal["response.reasoning_text.delta"]
    delta: str


class ReasoningTextDone(InPart):
    type: Literal["response.reasoning_text.done"]
    text: str


class ArgumentsDelta(InItem):
    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(InItem):
    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


ResponseEvent: TypeAlias = Annotated[
    ResponseGrown
    | ItemGrown
    | PartGrown
    | OutputTextDelta
    | OutputTextDone
    | ReasoningTextDelta
    | ReasoningTextDone
    | ArgumentsDelta
    | ArgumentsDone,
    Field(discriminator="type"),
]
