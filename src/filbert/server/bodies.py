"""Requests as OpenAI's clients write them. Fields beyond these are ignored; null is as good as left out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.sampling import Sampling
from filbert.engine.schema import bounded_schema

SEEDS = 2**32 - 1
ONE_OR_MANY = {"type": ["string", "array"], "items": {"type": "string"}}


def without_nulls(given: Any) -> Any:
    return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


def refused(given: Any) -> None:
    """A wish that would change the answer is not passed over in silence; left at its default it is no wish."""
    if given not in (False, "", {}, []):
        raise ValueError("this server does not do it yet")


Unsupported = Annotated[None, BeforeValidator(refused)]


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return without_nulls(given)


class StreamOptions(Body):
    include_usage: bool = False


class NamedSchema(Body):
    schema_: Annotated[dict[str, Any], AfterValidator(bounded_schema)] = Field(alias="schema")


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing")
        return self

    def wanted(self) -> dict[str, Any] | None:
        if self.type == "json_schema" and self.json_schema:
            return self.json_schema.schema_
        return {"type": "object"} if self.type == "json_object" else None


class GenerationBody(Sampling):
    """What both routes take: our sampling, and OpenAI's names for some of it."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_completion_tokens: int | None = Field(None, gt=0, le=10_000_000, description="The newer name of max_tokens.")
    stop: Annotated[tuple[str, ...], WithJsonSchema(ONE_OR_MANY)] = Field((), max_length=64)
    response_format: ResponseFormat = ResponseFormat()
    n: Literal[1] = 1
    logit_bias: Unsupported = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return without_nulls(given)

    @field_validator("seed", mode="before")
    @classmethod
    def _folded(cls, seed: Any) -> Any:
        """Theirs have 64 bits and a sign, the engine's 32."""
        return seed % SEEDS if type(seed) is int else seed

    def sampling(self) -> Sampling:
        given = self.model_dump(include=self.model_fields_set & set(Sampling.model_fields))
        given["max_tokens"] = self.max_completion_tokens or self.max_tokens
        given["json_schema"] = self.response_format.wanted() or self.json_schema
        given["stop"] = tuple(filter(None, self.stop)) or None
        return configured(Sampling, given)


class Call(Body):
    name: str
    arguments: str = ""


class ToolCall(Body):
    id: str = ""
    type: Literal["function"] = "function"
    function: Call


class Part(Body):
    type: Literal["text"]
    text: str


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] = ""
    name: str = ""
    tool_call_id: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)

    def message(self) -> Message:
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=self.content if isinstance(self.content, str) else "".join(part.text for part in self.content),
            name=self.name,
            tool_call_id=self.tool_call_id,
            tool_calls=tuple(call.model_dump() for call in self.tool_calls),
        )


class Function(Body):
    name: str
    description: str = ""
    parameters: Annotated[dict[str, Any], AfterValidator(bounded_schema)] = Field(default_factory=dict)


class Tool(Body):
    type: Literal["function"] = "function"
    function: Function


class ChosenTool(Body):
    type: Literal["function"] = "function"
    function: Call


def switched(given: Any) -> int | None:
    if not isinstance(given, bool):
        raise ValueError("it is true or false")
    return 0 if given else None


class ChatBody(GenerationBody):
    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ChosenTool = "auto"
    parallel_tool_calls: bool = False
    logprobs: Annotated[int | None, BeforeValidator(switched), WithJsonSchema({"type": "boolean"})] = None
    top_logprobs: int = Field(0, ge=0, le=20)

    def sampling(self) -> Sampling:
        chosen = super().sampling()
        return chosen if chosen.logprobs is None else chosen.model_copy(update={"logprobs": self.top_logprobs})

    def tool_fields(self) -> dict[str, Any]:
        """The worker's fields. It knows no tool by name: one that is named is the only one, and required."""
        if not self.tools:
            return {}
        tools, choice = self.tools, self.tool_choice
        if isinstance(choice, ChosenTool):
            tools = [tool for tool in tools if tool.function.name == choice.function.name]
            if not tools:
                raise BadInput(
                    f"tool_choice names {choice.function.name}, which is none of the tools.",
                    do="Name one of them, or leave tool_choice out.",
                )
            choice = "required"
        shown = [tool.model_dump() for tool in tools]
        return {"tools": shown, "tool_choice": choice, "parallel_tool_calls": self.parallel_tool_calls}


class CompletionBody(GenerationBody):
    prompt: str
    echo: Unsupported = None
    suffix: Unsupported = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _only_one(cls, prompt: Any) -> Any:
        return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt


class EmbeddingsBody(Body):
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Unsupported = None
