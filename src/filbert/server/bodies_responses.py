"""Requests to /v1/responses as OpenAI's clients write them. Fields beyond these are ignored; null is as good as left
out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from filbert.core.settings import configured
from filbert.engine.sampling import Sampling
from filbert.engine.schema import bounded_schema
from filbert.engine.tools import MAX_TOOLS, ToolUse, tool_use, use_of_one
from filbert.server.bodies import EFFORTS, IN_USE, AllowedName, AllowedTools, Body, Function, ModelName, Unsupported
from filbert.server.response_items import Item, MessageItem

LOGPROBS = "message.output_text.logprobs"
MetadataName = Annotated[str, StringConstraints(max_length=64)]
MetadataText = Annotated[str, StringConstraints(max_length=512)]


class ResponsesTool(Function):
    type: Literal["function"] = "function"
    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_tool_of_theirs(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("type", "function") != "function":
            raise ValueError("this server runs no tools of its own: describe functions of yours")
        return given


class TextFormat(Body):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema_: Annotated[dict[str, Any], AfterValidator(bounded_schema)] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "json_schema" and self.schema_ is None:
            raise ValueError("schema is missing")
        return self

    def wanted(self) -> dict[str, Any] | None:
        return {"text": None, "json_object": {"type": "object"}, "json_schema": self.schema_}[self.type]


class TextWish(Body):
    format: TextFormat = TextFormat()


class ReasoningWish(Body):
    """A summary is not made: the thought itself is told."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ResponsesBody(Body, Sampling):
    """Our sampling as well, and OpenAI's names for some of it."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"model": IN_USE, "input": "Say hi.", "max_output_tokens": 20}]},
    )

    model: ModelName
    input: str | list[Item] = Field("", description="What is said: text, or the items of a conversation.")
    instructions: str = Field("", description="The system message, of this answer only.")
    tools: list[ResponsesTool] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Functions of yours that the model may call."
    )
    tool_choice: Literal["none", "auto", "required"] | AllowedName | AllowedTools = Field(
        "auto", description="Whether a function may or must be called, and which."
    )
    parallel_tool_calls: bool | None = Field(None, description="Whether one answer may hold several calls.")
    text: TextWish = Field(TextWish(), description="The form of the answer.")
    reasoning: ReasoningWish = Field(ReasoningWish(), description="How hard a model that can thinks.")
    max_output_tokens: int | None = Field(None, gt=0, le=10_000_000, description="New tokens at most.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="Tell the log-probability of each token, and of this many others."
    )
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] = Field(
        default_factory=list, description="Thought is told as it is, so that it need not be asked for."
    )
    store: bool = Field(True, description="Keep the response, so that it can be read again and gone on from.")
    previous_response_id: str = Field("", description="The kept response that this one goes on from.")
    metadata: dict[MetadataName, MetadataText] = Field(default_factory=dict, max_length=16)
    truncation: Literal["auto", "disabled"] = Field(
        "disabled", description="auto leaves out the oldest turns where the context would not hold them."
    )
    stream: bool = Field(False, description="Send the answer as it is written, as server-sent events.")
    background: Unsupported = None
    conversation: Unsupported = None
    moderation: Unsupported = None
    prompt: Unsupported = None

    @property
    def items(self) -> list[Item]:
        if not isinstance(self.input, str):
            return self.input
        return [MessageItem(role="user", content=self.input)] if self.input else []

    def sampling_for(self, thinks: bool) -> Sampling:
        """A wish to think is a hint that clients send to every model: one that does not think passes over it. thinks:
        whether this one does."""
        given = self.model_dump(include=self.model_fields_set & set(Sampling.model_fields))
        given["max_tokens"] = self.max_output_tokens or self.max_tokens
        given["json_schema"] = self.text.format.wanted() or self.json_schema
        if LOGPROBS in self.include or self.top_logprobs is not None:
            given["logprobs"] = self.top_logprobs or 0
        if thinks and self.reasoning.effort and not self.think:
            given["think"] = (EFFORTS | {"max": "high"})[self.reasoning.effort]
        return configured(Sampling, given)

    def tool_use(self) -> ToolUse:
        """Raises BadInput."""
        tools = [tool.tool() for tool in self.tools]
        if isinstance(self.tool_choice, AllowedName):
            return use_of_one(tools, self.tool_choice.called, self.parallel_tool_calls)
        if isinstance(self.tool_choice, AllowedTools):
            return tool_use(self.tool_choice.of(tools), self.tool_choice.mode, self.parallel_tool_calls)
        return tool_use(tools, self.tool_choice, self.parallel_tool_calls)

    def told_again(self) -> dict[str, Any]:
        """What a response says of its request."""
        return {
            "background": False,
            "instructions": self.instructions or None,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata,
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id or None,
            "reasoning": {"effort": self.reasoning.effort, "summary": None},
            "temperature": self.temperature,
            "text": {"format": {"type": "text"} | self.text.format.model_dump(by_alias=True, exclude_unset=True)},
            "tool_choice": self._choice_again(),
            "tools": [{"type": "function"} | tool.model_dump(exclude_unset=True) for tool in self.tools],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": self.top_p,
            "truncation": self.truncation,
        }

    def _choice_again(self) -> str | dict[str, Any]:
        if isinstance(self.tool_choice, AllowedName):
            return {"type": "function", "name": self.tool_choice.called}
        if isinstance(self.tool_choice, AllowedTools):
            tools = [{"type": "function", "name": allowed.called} for allowed in self.tool_choice.tools]
            return {"type": "allowed_tools", "mode": self.tool_choice.mode, "tools": tools}
        return self.tool_choice
