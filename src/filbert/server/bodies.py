"""Requests as OpenAI's clients write them. Fields beyond these are ignored; null is as good as left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from filbert.core.errors import BadInput
from filbert.core.images import image_part_of_address
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.sampling import Sampling, Think
from filbert.engine.schema import bounded_schema
from filbert.engine.tools import MAX_TOOLS, Tool, ToolUse, tool_use, use_of_one
from filbert.models.context_lengths import MOST_CONTEXT

SEEDS = 2**32 - 1
MOST_PROMPTS = 128
EFFORTS: dict[str, Think] = {
    "none": "off",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
HELLO: dict[str, JsonValue] = {"role": "user", "content": "Say hi."}
IN_USE = "smollm2:135m"  # of examples
ModelName = Annotated[str, Field(description="The name of a model, as /v1/models lists it.")]
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
    include_usage: bool = Field(default=False, description="Tell the tokens in the last event.")


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

    model: ModelName
    stream: bool = Field(False, description="Send the answer as it is written, as server-sent events.")
    stream_options: StreamOptions = StreamOptions()
    max_completion_tokens: int | None = Field(None, gt=0, le=10_000_000, description="The newer name of max_tokens.")
    stop: Annotated[tuple[str, ...], WithJsonSchema(ONE_OR_MANY)] = Field((), max_length=64)
    response_format: ResponseFormat = ResponseFormat()
    n: int = Field(1, ge=1, le=128, description="Answers to the one prompt, at most as many as are made at once.")
    lora: Unsupported = Field(None, description="Adapters are named with the model: base+adapter.")
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] = Field(
        default_factory=dict, max_length=1024, description="By the token's number: what is added to its logit."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return without_nulls(given)

    @field_validator("seed", mode="before")
    @classmethod
    def _folded(cls, seed: Any) -> Any:
        """Theirs have 64 bits and a sign, the engine's 32."""
        return seed % SEEDS if type(seed) is int else seed

    @property
    def engine_fields(self) -> dict[str, Any]:
        """Wishes that the engine takes as they are."""
        return {"logit_bias": {str(token): by for token, by in self.logit_bias.items()}} if self.logit_bias else {}

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def sampling(self) -> Sampling:
        given = self.model_dump(include=self.model_fields_set & set(Sampling.model_fields))
        given["max_tokens"] = self.most_tokens
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


class TextPart(Body):
    type: Literal["text"]
    text: str

    def part(self) -> dict[str, Any]:
        return {"type": "text", "text": self.text}


def address_of_image(url: str) -> str:
    if not (url.startswith("data:") or url.lower().startswith(("http://", "https://"))):
        raise ValueError("nothing is fetched from there: send the image itself, data:image/png;base64,…")
    return url


ImageUrl = Annotated[
    str,
    AfterValidator(address_of_image),
    Field(
        description="data:image/png;base64,…, or where the server fetches images an address of the web.",
        json_schema_extra={"pattern": "^(data:|https?://)"},
    ),
]


class Pictured(Body, ABC):
    """A part that holds an image, or names it by an address of the web."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def holding(self, url: str) -> Self:
        """The same part with the image at another address."""

    def part(self) -> dict[str, Any]:
        """Decodes the image, which may take a second. Raises BadInput, also for one that is only named."""
        return image_part_of_address(self.url)


class ImageAddress(Body):
    url: ImageUrl


class ImagePart(Pictured):
    type: Literal["image_url"]
    image_url: ImageAddress

    @property
    def url(self) -> str:
        return self.image_url.url

    def holding(self, url: str) -> Self:
        return self.model_copy(update={"image_url": ImageAddress.model_construct(url=url)})


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] = ""
    reasoning_content: str = ""
    name: str = ""
    tool_call_id: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)

    def message(self) -> Message:
        """Decodes images, which may take a second. Raises BadInput."""
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=self._content(),
            reasoning=self.reasoning_content,
            name=self.name,
            tool_call_id=self.tool_call_id,
            tool_calls=tuple(call.model_dump() for call in self.tool_calls),
        )

    def _content(self) -> str | tuple[dict[str, Any], ...]:
        if isinstance(self.content, str):
            return self.content
        if all(isinstance(part, TextPart) for part in self.content):
            return "".join(part.text for part in self.content if isinstance(part, TextPart))
        return tuple(part.part() for part in self.content)


class Function(Body):
    name: str
    description: str = ""
    parameters: Annotated[dict[str, Any], AfterValidator(bounded_schema)] = Field(default_factory=dict)

    def tool(self) -> Tool:
        return Tool(self.name, self.description, self.parameters)


class ChatTool(Body):
    type: Literal["function"] = "function"
    function: Function


class ChosenTool(Body):
    type: Literal["function"] = "function"
    function: Call


class AllowedName(Body):
    type: Literal["function"] = "function"
    name: str = ""
    function: Call | None = None

    @property
    def called(self) -> str:
        return self.function.name if self.function else self.name


def says_its_type(schema: dict[str, Any]) -> None:
    """It is read where the two ways to spell it are told apart."""
    schema["properties"]["type"] = {"const": "allowed_tools", "type": "string"}
    schema["required"].append("type")


class AllowedTools(Body):
    model_config = ConfigDict(json_schema_extra=says_its_type)

    mode: Literal["auto", "required"] = "auto"
    tools: list[AllowedName] = Field(min_length=1, max_length=MAX_TOOLS)

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, given: Any) -> Any:
        """OpenAI's two routes spell it in two ways."""
        if not isinstance(given, dict) or given.get("type") != "allowed_tools":
            raise ValueError("its type is function or allowed_tools")
        return given.get("allowed_tools", given)

    def of(self, tools: list[Tool]) -> list[Tool]:
        names = {allowed.called for allowed in self.tools}
        if unknown := names - {tool.name for tool in tools}:
            raise BadInput(f"tool_choice allows {min(unknown)[:80]!r}, which is none of the tools.", do="Name those.")
        return [tool for tool in tools if tool.name in names]


def named_of_old(given: Any) -> None:
    if given not in (None, [], "auto", "none"):
        raise ValueError("it has become tools and tool_choice: send those")


OldName = Annotated[None, BeforeValidator(named_of_old)]


def switched(given: Any) -> int | None:
    if not isinstance(given, bool):
        raise ValueError("it is true or false")
    return 0 if given else None


class TemplateWishes(Body):
    enable_thinking: bool | None = None


class ChatBody(GenerationBody):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": IN_USE, "messages": [HELLO], "max_tokens": 20}]}
    )

    messages: list[ChatMessage] = Field(min_length=1, description="The conversation so far.")
    tools: list[ChatTool] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Functions of yours that the model may call."
    )
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | AllowedTools = Field(
        "auto", description="Whether a tool may or must be called, and which."
    )
    functions: OldName = None
    function_call: OldName = None
    parallel_tool_calls: bool | None = Field(None, description="Whether one answer may hold several calls.")
    logprobs: Annotated[int | None, BeforeValidator(switched), WithJsonSchema({"type": "boolean"})] = Field(
        None, description="Tell the log-probability of each token."
    )
    top_logprobs: int = Field(0, ge=0, le=20, description="And of this many others at its place.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="How hard a model that can thinks; others pass over it."
    )
    chat_template_kwargs: TemplateWishes = Field(TemplateWishes(), description="Qwen's name for whether to think.")

    def sampling(self) -> Sampling:
        chosen = super().sampling()
        return chosen if chosen.logprobs is None else chosen.model_copy(update={"logprobs": self.top_logprobs})

    def sampling_for(self, thinks: bool) -> Sampling:
        """OpenAI's and Qwen's names for `think` are hints, which clients send to every model: one that does not think
        passes over them. thinks: whether this one does."""
        chosen = self.sampling()
        return chosen.model_copy(update={"think": self._hint}) if thinks and self._hint and not self.think else chosen

    @property
    def _hint(self) -> Think | None:
        enabled = self.chat_template_kwargs.enable_thinking
        if self.reasoning_effort:
            return EFFORTS[self.reasoning_effort]
        return None if enabled is None else "on" if enabled else "off"

    def tool_use(self) -> ToolUse:
        """Raises BadInput."""
        tools = [tool.function.tool() for tool in self.tools]
        if isinstance(self.tool_choice, ChosenTool):
            return use_of_one(tools, self.tool_choice.function.name, self.parallel_tool_calls)
        if isinstance(self.tool_choice, AllowedTools):
            return tool_use(self.tool_choice.of(tools), self.tool_choice.mode, self.parallel_tool_calls)
        return tool_use(tools, self.tool_choice, self.parallel_tool_calls)


class CompletionBody(GenerationBody):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": IN_USE, "prompt": "Once upon a time", "max_tokens": 20}]}
    )

    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1, max_length=MOST_CONTEXT)]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1, max_length=MOST_CONTEXT)]],
            Field(min_length=1, max_length=MOST_PROMPTS),
        ]
    ) = Field(description="A text, or the numbers of its tokens; several with `echo` and `logprobs`.")
    max_tokens: int | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="New tokens at most. Left out: the context divided by the answers at once. 0 with `echo` and "
        "`logprobs`.",
    )
    echo: bool = Field(
        False,
        description="Tell the prompt before the answer; with `logprobs` also how likely its tokens are, and then "
        "`max_tokens` is 0, or 1 at the temperature 0.",
    )
    suffix: str = Field("", description="What comes after the answer; for models with marks for it.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _only_one(cls, prompt: Any) -> Any:
        return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int) else prompt

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else list(self.prompt)

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's own tokens are to be scored. Raises BadInput for what does not go together."""
        scores = self.echo and self.logprobs is not None
        if not scores and len(self.prompts) > 1:
            raise BadInput("A request has one prompt, but with echo and logprobs.", do="Send one request for each.")
        if not scores and self.most_tokens == 0:
            raise BadInput("max_tokens is 0.", do="Ask for a token at least, or for echo and logprobs.")
        if not scores and self.echo and self.suffix:
            raise BadInput("The prompt of a text with a suffix is not told again.", do="Leave echo or suffix out.")
        if scores:
            self._need_only_scores()
        return scores

    def _need_only_scores(self) -> None:
        most = self.most_tokens
        if most is None or most > 1:
            raise BadInput(
                "With echo and logprobs an answer has one token at most.",
                do="Send max_tokens 0 or 1; for a longer answer leave echo or logprobs out.",
            )
        if most and self.temperature != 0:
            raise BadInput(
                "With echo and logprobs the token after the prompt is the likeliest.",
                do="Send temperature 0, or max_tokens 0.",
            )
        wishes = {
            "stream": self.stream,
            "n": self.n > 1,
            "suffix": self.suffix,
            "stop": any(self.stop),
            "logit_bias": self.logit_bias,
            "response_format": self.response_format.wanted(),
            "json_schema": self.json_schema,
            "grammar": self.grammar,
        }
        if unfit := [name for name, wish in wishes.items() if wish]:
            raise BadInput(f"{unfit[0]} does not go with echo and logprobs.", do="Leave one of them out.")

    @field_validator("suffix")
    @classmethod
    def _beside_text(cls, suffix: str, known: ValidationInfo) -> str:
        if suffix and not isinstance(known.data.get("prompt", ""), str):
            raise ValueError("it goes with a prompt that is text")
        return suffix


class EmbeddingsBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"model": IN_USE, "input": ["a cat", "a dog"]}]})

    model: ModelName
    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=2048)]
        | Annotated[list[TokenId], Field(min_length=1, max_length=MOST_CONTEXT)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=2048)]
    ) = Field(description="One text or several, also as the numbers of their tokens.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64 is shorter: little-endian 32-bit numbers."
    )
    dimensions: int | None = Field(None, ge=1, description="Keep so many numbers of each vector, made unit again.")

    @property
    def inputs(self) -> list[str | list[int]]:
        """What is to be embedded, each by itself."""
        if isinstance(self.input, str):
            return [self.input]
        return [self.input] if isinstance(self.input[0], int) else list(self.input)


class Document(Body):
    text: str


class RerankBody(Body):
    """As Jina, Cohere and llama.cpp have it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": IN_USE, "query": "a pet", "documents": ["a cat", "a stone"]}]}
    )

    model: ModelName
    query: str
    documents: list[str | Document] = Field(min_length=1, max_length=2048)
    top_n: int | None = Field(None, ge=1, description="Tell the closest only, this many.")
    return_documents: bool = Field(False, description="Tell the documents again.")

    @property
    def texts(self) -> list[str]:
        return [each if isinstance(each, str) else each.text for each in self.documents]
