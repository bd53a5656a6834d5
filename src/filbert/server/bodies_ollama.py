"""Requests as Ollama's clients write them. Fields beyond these are ignored; null is as good as left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from filbert.core.images import image_part_of_address
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.keep_alive import seconds
from filbert.engine.sampling import Sampling
from filbert.engine.schema import bounded_schema
from filbert.engine.tools import MAX_TOOLS, Tool
from filbert.models.modelfile import NEGATIVE_MEANS_ANY, PARAMETERS, Modelfile, named_by_ollama
from filbert.models.preset import Example
from filbert.server.bodies import HELLO, IN_USE, ONE_OR_MANY, SEEDS, Body, ChatTool, Unsupported, without_nulls

LEAST_CONTEXT, MOST_CONTEXT = 64, 1 << 30
MOST_TOKENS = 10_000_000


def schema_of(format: Any) -> Any:
    if format == "":
        return None
    if format == "json":
        return {"type": "object"}
    if not isinstance(format, dict):
        raise ValueError("it is json or a JSON schema")
    return bounded_schema(format)


KeepAlive = Annotated[
    float | None, BeforeValidator(seconds), WithJsonSchema({"type": ["number", "string"], "examples": ["5m", -1]})
]
Format = Annotated[
    dict[str, Any] | None,
    BeforeValidator(schema_of),
    WithJsonSchema({"type": ["string", "object"], "examples": ["json"]}),
]
OllamaName = Annotated[
    str,
    Field(
        min_length=1,
        validation_alias=AliasChoices("model", "name"),
        description="The name of a model, as /api/tags lists it. Older clients call this field name.",
    ),
]


def of_example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [{"model": IN_USE, **fields}]})


class RunOptions(Sampling):
    """Ollama's `options`: our sampling, and its own names for some of it and for the context."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    stop: Annotated[tuple[str, ...], WithJsonSchema(ONE_OR_MANY)] = Field((), max_length=64)
    num_ctx: int | None = Field(
        None, le=MOST_CONTEXT, description="Tokens of context; another than the usual one means a load of its own."
    )
    num_predict: int | None = Field(
        None, description="New tokens at most; -1 as many as usual, -2 what the context holds."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return without_nulls(given)

    @field_validator("seed", mode="before")
    @classmethod
    def _folded(cls, seed: Any) -> Any:
        """Theirs have a sign, and -1 means any."""
        return (None if seed == -1 else seed % SEEDS) if type(seed) is int else seed

    @field_validator("top_k", mode="before")
    @classmethod
    def _all(cls, top_k: Any) -> Any:
        return max(0, top_k) if type(top_k) is int else top_k

    @property
    def context(self) -> int | None:
        return max(LEAST_CONTEXT, self.num_ctx) if self.num_ctx and self.num_ctx > 0 else None

    @property
    def most_tokens(self) -> int | None:
        if self.num_predict is None:
            return self.max_tokens
        if self.num_predict == -2:
            return MOST_TOKENS
        return min(self.num_predict, MOST_TOKENS) if self.num_predict > 0 else None


class NameBody(Body):
    model_config = of_example()

    model: OllamaName


class RunBody(NameBody):
    """Of what needs a model that is loaded."""

    options: RunOptions = Field(
        default_factory=lambda: RunOptions.model_validate({}), description="How to choose tokens, and the context."
    )
    keep_alive: KeepAlive = Field(
        None, description="How long the model stays in memory afterwards; 0 unloads it, below zero it stays."
    )


class AnswerBody(RunBody):
    stream: bool = Field(True, description="Send the answer as it is written, a document a line.")
    format: Format = Field(None, description="json, or the JSON schema that the answer holds to.")
    think: bool | Literal["low", "medium", "high"] | None = Field(
        None, description="Whether a model that can thinks before it answers; refused by others."
    )
    logprobs: bool = Field(False, description="Tell the log-probability of each token.")
    top_logprobs: int = Field(0, ge=0, le=20, description="And of this many others at its place.")

    def sampling(self) -> Sampling:
        given = self.options.model_dump(include=self.options.model_fields_set & set(Sampling.model_fields))
        given |= {
            "max_tokens": self.options.most_tokens,
            "json_schema": self.format or self.options.json_schema,
            "think": self.options.think if self.think is None else self.think,
            "logprobs": self.top_logprobs if self.logprobs else self.options.logprobs,
            "stop": tuple(filter(None, self.options.stop)) or None,
        }
        return configured(Sampling, given)


class CalledFunction(Body):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class MadeCall(Body):
    id: str = ""
    function: CalledFunction

    def told(self, number: str) -> dict[str, Any]:
        """In OpenAI's shape; number: its id where it has none."""
        function = {"name": self.function.name, "arguments": json.dumps(self.function.arguments, ensure_ascii=False)}
        return {"id": self.id or number, "type": "function", "function": function}


class SaidMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    thinking: str = ""
    images: list[str] = Field(default_factory=list)
    tool_calls: list[MadeCall] = Field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""


class OllamaChatBody(AnswerBody):
    model_config = of_example(messages=[HELLO], options={"num_predict": 20})

    messages: list[SaidMessage] = Field(
        default_factory=list, description="The conversation so far; an empty one loads the model, or unloads it."
    )
    tools: list[ChatTool] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Functions of yours that the model may call."
    )

    def given_tools(self) -> list[Tool]:
        return [tool.function.tool() for tool in self.tools]

    def conversation(self) -> list[Message]:
        """Decodes images, which may take a second. A call has no id there: a result belongs to the first call of its
        name that has none yet. Raises BadInput."""
        told: list[Message] = []
        waiting: dict[str, str] = {}  # ids of calls without a result, and what they call
        for message in self.messages:
            calls = tuple(call.told(f"call{len(told):03}{at:02}") for at, call in enumerate(message.tool_calls))
            waiting |= {call["id"]: call["function"]["name"] for call in calls}
            answered = _answered(message, waiting)
            waiting.pop(answered, None)
            told.append(
                Message(
                    role="system" if message.role == "developer" else message.role,
                    content=content(message.content, message.images),
                    reasoning=message.thinking,
                    tool_calls=calls,
                    tool_call_id=answered,
                    name=message.tool_name,
                )
            )
        return told


def _answered(message: SaidMessage, waiting: Mapping[str, str]) -> str:
    if message.role != "tool":
        return ""
    of_that_name = (call for call, name in waiting.items() if message.tool_name in ("", name))
    return message.tool_call_id or next(of_that_name, "")


def content(text: str, images: Iterable[str]) -> str | tuple[dict[str, Any], ...]:
    """images: in base64. Raises BadInput."""
    parts = [image_part_of_address(image if image.startswith("data:") else f"data:;base64,{image}") for image in images]
    return ({"type": "text", "text": text}, *parts) if parts else text


class GenerateBody(AnswerBody):
    model_config = of_example(prompt="Say hi.", options={"num_predict": 20})

    prompt: str = ""
    suffix: str = Field("", description="What comes after the answer; for models with marks for it.")
    system: str = Field("", description="The system message.")
    raw: bool = Field(False, description="Go on from the prompt as it stands, without a template.")
    images: list[str] = Field(default_factory=list, description="In base64.")
    template: Unsupported = None
    context: Unsupported = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.raw or self.suffix) and (self.system or self.images):
            raise ValueError("a prompt that is raw, or has a suffix, goes with neither system nor images")
        return self

    @property
    def is_empty(self) -> bool:
        return not (self.prompt or self.suffix or self.images)

    def conversation(self) -> list[Message]:
        """Decodes images. Raises BadInput."""
        asked = Message("user", content(self.prompt, self.images))
        return [Message("system", self.system), asked] if self.system else [asked]


class EmbedBody(RunBody):
    model_config = of_example(input=["a cat", "a dog"])

    input: str | Annotated[list[str], Field(max_length=2048)] = Field(
        default_factory=list, description="One text or several."
    )
    dimensions: int | None = Field(None, ge=0, description="Keep so many numbers of each vector, made unit again.")
    truncate: bool = Field(True, description="Take the beginning of a text that is too long, rather than refuse it.")

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class OldEmbeddingsBody(RunBody):
    model_config = of_example(prompt="a cat")

    prompt: str = ""


class ShowBody(NameBody):
    verbose: bool = Field(False, description="Tell the vocabulary, too.")


class PullBody(NameBody):
    stream: bool = Field(True, description="Tell of the progress, a document a line.")


class CopyBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"source": IN_USE, "destination": "nut"}]})

    source: str = Field(min_length=1)
    destination: str = Field(min_length=1, description="The new name.")


class ExampleMessage(Body):
    role: Literal["system", "user", "assistant"]
    content: str = ""


class CreateBody(NameBody):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "poet", "from": IN_USE, "system": "You answer in verse."}]}
    )

    from_: str = Field(alias="from", min_length=1, description="The model that the new name stands for.")
    stream: bool = Field(True, description="Tell of the progress, a document a line.")
    system: str = Field("", description="The system message of every conversation.")
    template: str = Field("", description="The chat template.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Of a Modelfile's PARAMETER.")
    messages: list[ExampleMessage] = Field(
        default_factory=list, description="Messages that stand before every conversation."
    )
    license: str | list[str] = ""
    files: Unsupported = None
    adapters: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Of installed ones: a name, or a file's digest (sha256:…)."
    )
    quantize: Unsupported = None

    @property
    def own_name(self) -> str:
        return named_by_ollama(self.model)

    def modelfile(self, of: str) -> Modelfile:
        """of: the model that it is made from, as ours is called."""
        values = {
            ours: _value(given)
            for theirs, given in self.parameters.items()
            if (ours := PARAMETERS.get(theirs)) and given is not None and not _is_any(ours, given)
        }
        return Modelfile(
            of=of,
            values={**values, **({"system": self.system} if self.system else {})},
            template=self.template,
            examples=tuple(Example(role=each.role, content=each.content) for each in self.messages),
            licence=self.license if isinstance(self.license, str) else "\n\n".join(self.license),
        )


def _is_any(ours: str, given: object) -> bool:
    return ours in NEGATIVE_MEANS_ANY and isinstance(given, int | float) and given < 0


def _value(given: object) -> str | list[str]:
    return [str(text) for text in given] if isinstance(given, list) else str(given)
