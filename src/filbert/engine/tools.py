"""Tools that a model may call: how they are shown to it, and what its answer is held to so that it is a call.

A template that knows tools shows them itself. For any other they stand in the system message, calls in the answers that
made them, and results in the turn of the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from filbert.core.errors import BadInput
from filbert.core.messages import Message, shown
from filbert.engine.bounds import text_bound
from filbert.engine.sampling import Sampling
from filbert.engine.schema import bounded_schema, moved
from filbert.engine.schema_bounds import ending_within

MAX_NAME = 256
MAX_TOOLS = 128
MAX_CALLS = 8  # in one answer that is held to calls
MAX_BYTES = 256_000  # of all their schemas: the engine makes a grammar of them
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

INTRODUCTION = "You can call these functions. Their parameters are JSON schemas:"
MAY_CALL = (
    'To call one, answer with nothing but JSON: {"name": the function, "arguments": {…}}. '
    "Its result comes with the next message. Where no function helps, answer in plain text."
)
MUST_CALL = 'Answer with nothing but the call that fits, as JSON: {"name": the function, "arguments": {…}}.'


@dataclass(frozen=True, slots=True)
class Tool:
    """A function as a model sees it. parameters: the JSON schema of its arguments. Raises BadInput for one that no
    answer can be held to."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME:
            raise BadInput(f"A tool's name has 1 to {MAX_NAME} characters.", do="Give it one.")
        text_bound(self.name + self.description)
        try:
            bounded_schema(dict(self.parameters))
        except ValueError as exc:
            raise BadInput(
                f"The tool {self.name} cannot be used.",
                why=f"Its parameters: {exc}.",
                do="Write them as a JSON schema of an object.",
            ) from exc
        if self.parameters.get("type", "object") != "object":
            raise BadInput(f"The tool {self.name} cannot be used.", do="Let its parameters describe an object.")

    def to_json(self) -> dict[str, Any]:
        """The tool in OpenAI's shape."""
        function = {"name": self.name, "description": self.description, "parameters": self.arguments}
        return {"type": "function", "function": function}

    @property
    def arguments(self) -> dict[str, Any]:
        """The schema that a call's arguments are held to; one that says nothing means none."""
        says = self.parameters.keys() - {"type", "properties"} or self.parameters.get("properties")
        return {"type": "object", **self.parameters} if says else NO_ARGUMENTS


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request. required: the answer is a call; else it may be one. parallel: it may be several."""

    tools: tuple[Tool, ...] = ()
    required: bool = False
    parallel: bool = True

    def held(self, sampling: Sampling) -> Sampling:
        """What the answer is held to, beside what the request asks. Raises BadInput for a grammar of its own."""
        if not self.tools:
            return sampling
        if sampling.grammar is not None:
            raise BadInput("An answer cannot hold to a grammar and call tools.", do="Leave one out.")
        if self.required:  # a call has no text: nothing to stop at, no tokens to tell of
            schema = call_schema(self.tools, self.parallel)
            return sampling.model_copy(update={"json_schema": schema, "logprobs": None, "stop": ()})
        if sampling.json_schema is not None:
            schema = call_schema(self.tools, parallel=False, or_else=sampling.json_schema)
            return sampling.model_copy(update={"json_schema": schema})
        return sampling

    def within(self, sampling: Sampling, tokens: int) -> Sampling:
        """A call that is required ends within its tokens. sampling: as `held` made it."""
        if not self.required or sampling.json_schema is None:
            return sampling
        schema = ending_within(sampling.json_schema, tokens * 3 // 4)  # the rest is for marks and white space
        return sampling.model_copy(update={"json_schema": schema})

    def body(self, messages: Sequence[Message], template: str, sampling: Sampling | None = None) -> dict[str, Any]:
        """The messages as the template can show them, with the tools. sampling: as `held` made it."""
        # The engine tells no log-probabilities of an answer in which it looks for calls itself.
        looks = sampling is None or sampling.logprobs is None
        if not knows_tools(template) or (self.tools and not looks):
            return {"messages": shown(self._in_words(messages))}
        body: dict[str, Any] = {"messages": shown([_with_read_arguments(message) for message in messages])}
        if self.tools:
            # An answer that is held to a schema of ours is none the engine should read.
            reads = sampling is None or sampling.json_schema is None
            body |= {"tools": [tool.to_json() for tool in self.tools], "tool_choice": "auto" if reads else "none"}
            body["parallel_tool_calls"] = self.parallel
        return body

    def _in_words(self, messages: Sequence[Message]) -> list[Message]:
        told = in_words(messages, with_calls=bool(self.tools))
        if not self.tools:
            return told
        text = "\n".join([INTRODUCTION, *map(_tool_in_words, self.tools), MUST_CALL if self.required else MAY_CALL])
        return with_system_text(told, text)


NO_TOOLS = ToolUse()


def tool_use(tools: Iterable[Tool], choice: str = "auto", parallel: bool | None = None) -> ToolUse:
    """choice: auto, none, required, or the name of the one that must be called. parallel: whether an answer may hold
    several calls; left out, it may where it may call at all, and is one call where it must. Raises BadInput."""
    given = tuple(tools)
    if choice not in ("auto", "none", "required"):
        return use_of_one(given, choice, parallel)
    if choice == "required" and not given:
        raise BadInput("A tool must be called, and there is none.", do="Give tools, or leave tool_choice out.")
    _need_bounded(given)
    required = choice == "required"
    return ToolUse(() if choice == "none" else given, required, not required if parallel is None else parallel)


def use_of_one(tools: Iterable[Tool], name: str, parallel: bool | None = None) -> ToolUse:
    """Only the tool of that name is shown, and called. Raises BadInput when there is none."""
    for tool in tools:
        if tool.name == name:
            return ToolUse((tool,), required=True, parallel=bool(parallel))
    raise BadInput(
        f"tool_choice names {name[:80]}, which is none of the tools.", do="Name one of them, or leave tool_choice out."
    )


def _need_bounded(tools: Sequence[Tool]) -> None:
    if len({tool.name for tool in tools}) < len(tools):
        raise BadInput("Two tools have the same name.", do="Give each a name of its own.")
    if len(tools) > MAX_TOOLS:
        raise BadInput(f"There are {len(tools)} tools, and {MAX_TOOLS} may be given.", do="Give those that help.")
    if sum(len(json.dumps(tool.to_json())) for tool in tools) > MAX_BYTES:
        raise BadInput(f"The tools have more than {MAX_BYTES} bytes together.", do="Give fewer, or say less of each.")


def knows_tools(template: str) -> bool:
    """Whether a chat template shows tools: it uses the variable, and not only the word."""
    blocks = re.findall(r"\{[{%](.*?)[%}]\}", template, re.DOTALL)
    return any(re.search(r"(?<![\w.])tools\b", re.sub(r"'[^']*'|\"[^\"]*\"", "", block)) for block in blocks)


def call_schema(tools: Sequence[Tool], parallel: bool, or_else: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of a call of one of the tools, or of several. or_else: what the answer may be instead."""
    within = {f"tool{i}": moved(tool.arguments, f"#/$defs/tool{i}") for i, tool in enumerate(tools)}
    choices = [_one_call(tool.name, f"#/$defs/tool{i}") for i, tool in enumerate(tools)]
    if or_else is not None:
        within["answer"] = moved(or_else, "#/$defs/answer")
        choices.append({"$ref": "#/$defs/answer"})
    call: dict[str, Any] = {"anyOf": choices} if len(choices) > 1 else choices[0]
    if parallel:
        call = {"type": "array", "items": call, "minItems": 1, "maxItems": MAX_CALLS}
    return {**call, "$defs": within}


def _one_call(name: str, arguments: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": arguments}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _with_read_arguments(message: Message) -> Message:
    """For the engine reads the arguments of calls, and fails on what is no JSON. Raises BadInput."""
    for call in message.tool_calls:
        try:
            json.loads(call["function"].get("arguments") or "{}")
        except (ValueError, RecursionError) as exc:
            raise BadInput(
                f"The arguments of a call of {call['function']['name'][:80]} are no JSON.",
                do="Leave the call out, or give its arguments as an object in JSON.",
            ) from exc
    calls = tuple(
        {**call, "function": {**call["function"], "arguments": call["function"].get("arguments") or "{}"}}
        for call in message.tool_calls
    )
    return replace(message, tool_calls=calls) if calls else message


def in_words(messages: Sequence[Message], with_calls: bool) -> list[Message]:
    """Calls and results as text, for a template that knows neither. Results join the user's message before them; where
    nothing can be called, calls are left out, for a small model would go on calling."""
    names = {str(call.get("id")): call["function"]["name"] for message in messages for call in message.tool_calls}
    told: list[Message] = []
    for message in messages:
        if message.role == "tool":
            name = message.name or names.get(message.tool_call_id, "the function")
            _join(told, f"The result of {name}:\n{message.text}")
        elif message.tool_calls:
            calls = [_call_in_words(call["function"]) for call in message.tool_calls] if with_calls else []
            if text := "\n".join(filter(None, [message.text, *calls])):
                told.append(replace(message, content=text, tool_calls=()))
        else:
            told.append(message)
    return told


def _tool_in_words(tool: Tool) -> str:
    """What there is to say of it, for each token costs time."""
    says: dict[str, Any] = {"name": tool.name, "description": tool.description}
    says |= {"parameters": tool.arguments} if tool.arguments is not NO_ARGUMENTS else {}
    return json.dumps({name: value for name, value in says.items() if value}, ensure_ascii=False)


def _join(told: list[Message], text: str) -> None:
    """Add to the user's last message, or a new one: many templates want turns to alternate."""
    if not told or told[-1].role != "user":
        told.append(Message("user", text))
    elif isinstance(told[-1].content, str):
        told[-1] = replace(told[-1], content=f"{told[-1].content}\n\n{text}")
    else:
        told[-1] = replace(told[-1], content=(*told[-1].content, {"type": "text", "text": text}))


def _call_in_words(function: Mapping[str, Any]) -> str:
    """As the answer was asked for; arguments that are no JSON stay as they came."""
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'{{"name": {name}, "arguments": {function.get("arguments") or "{}"}}}'


def with_system_text(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with a text at the end of the system message, or in one of its own."""
    first, *rest = messages or [Message("system")]
    if first.role != "system":
        return [Message("system", text), *messages]
    return [replace(first, content=f"{first.text}\n\n{text}".strip()), *rest]
