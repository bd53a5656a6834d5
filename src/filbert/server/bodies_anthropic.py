"""Requests as Anthropic's clients write them. Fields beyond these are ignored; null is as good as left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.sampling import Sampling, Think
from filbert.engine.schema import bounded_schema
from filbert.engine.tools import MAX_TOOLS, Tool, ToolUse, tool_use, use_of_one
from filbert.server.bodies import EFFORTS, HELLO, IN_USE, Body, ImageUrl, ModelName, Pictured
from filbert.server.lent import Lent

BETWEEN_BLOCKS = "\n\n"


class TextBlock(Body):
    type: Literal["text"] = "text"
    text: str


def _no_file(source: Any) -> Any:
    if isinstance(source, dict) and source.get("type") == "file":
        raise ValueError("nothing is fetched: send the content itself")
    return source


class Base64Source(Body):
    type: Literal["base64"]
    media_type: str
    data: str

    @property
    def address(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


class UrlSource(Body):
    type: Literal["url"]
    url: ImageUrl

    @property
    def address(self) -> str:
        return self.url


class ImageBlock(Pictured):
    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source | UrlSource, Field(discriminator="type")],
        BeforeValidator(_no_file),
    ]

    @property
    def url(self) -> str:
        return self.source.address

    def holding(self, url: str) -> Self:
        return self.model_copy(update={"source": UrlSource.model_construct(type="url", url=url)})


class TextSource(Body):
    type: Literal["text"]
    data: str

    @property
    def text(self) -> str:
        return self.data


class ContentSource(Body):
    type: Literal["content"]
    content: str | list[TextBlock]

    @property
    def text(self) -> str:
        return text_of(self.content)


def _text_only(source: Any) -> Any:
    if isinstance(source, dict) and source.get("type") == "base64":
        raise ValueError("a document is read as text only: send what it says")
    if isinstance(source, dict) and source.get("type") == "url":
        raise ValueError("nothing is fetched: send the content itself")
    return _no_file(source)


class DocumentBlock(Body):
    type: Literal["document"]
    source: Annotated[
        Annotated[TextSource | ContentSource, Field(discriminator="type")],
        BeforeValidator(_text_only),
    ]
    title: str = ""
    context: str = ""

    @property
    def text(self) -> str:
        return BETWEEN_BLOCKS.join(filter(None, (self.title, self.context, self.source.text)))


class ThinkingBlock(Body):
    """Its signature is not looked at: there is nobody whom it would prove anything to."""

    type: Literal["thinking"]
    thinking: str


class RedactedThinkingBlock(Body):
    """Of another server, which alone can read it."""

    type: Literal["redacted_thinking"]


class ToolUseBlock(Body):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]

    def call(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": json.dumps(self.input, ensure_ascii=False)}
        return {"id": self.id, "type": "function", "function": function}


Shown = Annotated[TextBlock | ImageBlock | DocumentBlock, Field(discriminator="type")]


class ToolResultBlock(Body):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Shown] = ""
    is_error: bool = False

    def message(self) -> Message:
        """Its text; templates know no images in a result, so that these follow in the user's message."""
        text = text_of(self.content)
        return Message("tool", f"It failed: {text}" if self.is_error else text, tool_call_id=self.tool_use_id)

    @property
    def images(self) -> list[ImageBlock]:
        return [] if isinstance(self.content, str) else [b for b in self.content if isinstance(b, ImageBlock)]


Asked = Annotated[TextBlock | ImageBlock | DocumentBlock | ToolResultBlock, Field(discriminator="type")]
Said = Annotated[TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock, Field(discriminator="type")]


class Turn(Body):
    content: str | list[Any]

    @property
    def blocks(self) -> list[Body]:
        return [TextBlock(text=self.content)] if isinstance(self.content, str) else self.content


class SystemMessage(Turn):
    role: Literal["system"]
    content: str | list[TextBlock]


class UserMessage(Turn):
    role: Literal["user"]
    content: str | Annotated[list[Asked], Field(min_length=1)]


class AssistantMessage(Turn):
    role: Literal["assistant"]
    content: str | list[Said]


AnyTurn = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


def text_of(content: str | Sequence[Body]) -> str:
    if isinstance(content, str):
        return content
    return BETWEEN_BLOCKS.join(block.text for block in content if isinstance(block, TextBlock | DocumentBlock))


def ordered(blocks: Sequence[Body]) -> Iterator[Message]:
    """A system's turn."""
    yield Message("system", text_of(blocks))


def asked(blocks: Sequence[Body]) -> Iterator[Message]:
    """A user's turn. Results of tools come first, as templates want them right behind the calls."""
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    yield from (block.message() for block in results)
    images = [image for block in results for image in block.images]
    shown = images + [block for block in blocks if isinstance(block, TextBlock | ImageBlock | DocumentBlock)]
    if any(isinstance(block, ImageBlock) for block in shown):
        yield Message("user", tuple(map(_part, shown)))
    elif shown:
        yield Message("user", text_of(shown))


def _part(block: TextBlock | ImageBlock | DocumentBlock) -> dict[str, Any]:
    return block.part() if isinstance(block, ImageBlock) else {"type": "text", "text": block.text}


def said(blocks: Sequence[Body]) -> Iterator[Message]:
    """An assistant's turn. Its texts were one."""
    yield Message(
        "assistant",
        "".join(block.text for block in blocks if isinstance(block, TextBlock)),
        reasoning="".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock)),
        tool_calls=tuple(block.call() for block in blocks if isinstance(block, ToolUseBlock)),
    )


MESSAGES_OF = {"system": ordered, "user": asked, "assistant": said}


def _no_tool_of_theirs(given: Any) -> Any:
    if given != "custom":
        raise ValueError("this server runs no tools of its own: describe yours by input_schema")
    return given


class AnthropicTool(Body):
    type: Annotated[Literal["custom"], BeforeValidator(_no_tool_of_theirs)] = "custom"
    name: str
    description: str = ""
    input_schema: Annotated[dict[str, Any], AfterValidator(bounded_schema)]

    def tool(self) -> Tool:
        return Tool(self.name, self.description, self.input_schema)


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""
    disable_parallel_tool_use: bool | None = None

    def use_of(self, tools: list[Tool]) -> ToolUse:
        """Raises BadInput."""
        parallel = None if self.disable_parallel_tool_use is None else not self.disable_parallel_tool_use
        if self.type == "tool":
            return use_of_one(tools, self.name, parallel)
        return tool_use(tools, "required" if self.type == "any" else self.type, parallel)


class ThinkingWish(Body):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = Field(None, gt=0, le=10_000_000)
    display: Literal["summarized", "omitted"] = "summarized"


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], AfterValidator(bounded_schema)] = Field(alias="schema")


class OutputConfig(Body):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None

    @property
    def think(self) -> Think | None:
        return None if self.effort is None else (EFFORTS | {"max": "high"})[self.effort]


class CountBody(Body, Sampling):
    """A conversation, what may be called in it and how it is answered: our sampling as well, and Anthropic's names for
    some of it."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"model": IN_USE, "max_tokens": 20, "messages": [HELLO]}]},
    )

    model: ModelName
    messages: list[Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]] = Field(
        min_length=1, description="The conversation so far."
    )
    system: str | list[TextBlock] = Field("", description="The system message.")
    tools: list[AnthropicTool] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Tools of yours that the model may call."
    )
    tool_choice: ToolChoice = Field(ToolChoice(), description="Whether a tool may or must be called, and which.")
    stop_sequences: tuple[str, ...] = Field((), max_length=64, description="Texts that end the answer.")
    thinking: ThinkingWish | None = Field(
        None, description="Whether a model that can thinks before it answers; left out it does not."
    )
    output_config: OutputConfig = Field(OutputConfig(), description="The form of the answer, and how hard to think.")

    def conversation(self) -> list[Message]:
        """Turns of one role in a row are one turn. Decodes images, which may take a second. Raises BadInput."""
        told = [Message("system", text)] if (text := text_of(self.system)) else []
        blocks = [(turn.role, block) for turn in self.messages for block in turn.blocks]
        for role, turn in groupby(blocks, lambda pair: pair[0]):
            told += MESSAGES_OF[role]([block for _, block in turn])
        if not blocks:
            raise BadInput("No message says anything.", do="Send one of the user's.")
        return told

    def tool_use(self) -> ToolUse:
        """Raises BadInput."""
        return self.tool_choice.use_of([tool.tool() for tool in self.tools])

    def sampling_for(self, model: Lent) -> Sampling:
        """A wish to think is a hint that clients send to every model: one that does not think passes over it. Left out,
        it means no thought, as theirs do: their clients read the answer in the first block."""
        chosen = self._sampling()
        if model.thinking is None or "think" in self.model_fields_set:
            return chosen
        if self.thinking is None:
            think = model.settled(chosen).think or "off"
        else:
            think = "off" if self.thinking.type == "disabled" else self.output_config.think or "on"
        return chosen.model_copy(update={"think": think})

    def _sampling(self) -> Sampling:
        given = self.model_dump(include=self.model_fields_set & set(Sampling.model_fields))
        given["stop"] = tuple(filter(None, (*self.stop_sequences, *self.stop))) or None
        given["json_schema"] = self.output_config.format.schema_ if self.output_config.format else self.json_schema
        return configured(Sampling, given)


class MessagesBody(CountBody):
    """What /v1/messages takes: the same, and how the answer is sent."""

    max_tokens: int = Field(gt=0, le=10_000_000, description="New tokens at most.")
    stream: bool = Field(False, description="Send the answer as it is written, as server-sent events.")

    def engine_fields(self, model: Lent) -> dict[str, Any]:
        """What the sampling has no words for: the tokens of a thought, and that the engine tells which text stopped
        the answer."""
        budget = self.thinking.budget_tokens if self.thinking and self.thinking.type == "enabled" else None
        fields = {"reasoning_budget_tokens": budget} if budget and model.thinking else {}
        return fields | ({"verbose": True} if self.stop_sequences else {})

    @property
    def shows_thought(self) -> bool:
        return self.thinking is None or self.thinking.display == "summarized"
