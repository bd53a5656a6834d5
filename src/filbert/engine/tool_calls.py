"""Calls of tools in what a model writes, as it writes it: the engine's events in, events with calls out."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from filbert.core.errors import BadAnswer
from filbert.engine.kept_schema import breach, needs_check
from filbert.engine.tools import Tool, ToolUse
from filbert.engine.transport import Event, choice_of, finish_reason

STRING = r'"(?:[^"\\]|\\.)*"'
CALL_HEAD = re.compile(rf'[\s\[,}}]*\{{\s*"name"\s*:\s*({STRING})\s*,\s*"arguments"\s*:\s*(?=\S)')
NAME = re.compile(rf'"name"\s*:\s*({STRING})')
WRAPPING = re.compile(r"(?:```(?:json|tool_call)?|</?tool_call>|\s)*")
OPENERS = ("<tool_call>", "```json", "```tool_call", "```")
KEYS = ('"name"', '"arguments"', '"parameters"', '"function"', '"type"', '"id"')
HEAD = re.compile(  # up to the first object, once it is known what that is
    rf'\s*(?:{"|".join(OPENERS)})?\s*\[?\s*(?=\{{\s*(?:"name"\s*:\s*{STRING}|{"|".join(KEYS[1:])}))'
)
MOST_HEAD = 4_096  # characters: more than white space, marks and the longest name have
FOLLOWERS = "<`],{"  # what may close a call or begin another
SPELLINGS = {key.strip('"') for key in KEYS}
DECODER = json.JSONDecoder()


class CallReader(Protocol):
    def read(self, event: Event) -> Iterable[Event]:
        """What an event of the engine tells, now that it came."""

    def rest(self) -> Iterable[Event]:
        """What was held back when the events ended early."""


def reader(use: ToolUse) -> CallReader | None:
    """Who reads the calls of an answer; None where there can be none."""
    if not use.tools:
        return None
    return HeldCalls(use) if use.required else SpottedCalls(use)


class HeldCalls:
    """An answer that is held to calls: each is told as it grows, its name first. Raises BadAnswer for one that breaks
    what it could not be held to."""

    def __init__(self, use: ToolUse) -> None:
        self._text = ""  # not read yet
        self._arguments: OpenArguments | None = None
        self._n_calls = 0
        self._checked = {tool.name: tool for tool in use.tools if needs_check(tool.arguments)}
        self._under_check: Tool | None = None
        self._grown = ""  # arguments of the call under check

    def read(self, event: Event) -> Iterator[Event]:
        self._text += content(event)
        pieces = _one_a_call(self._pieces())
        if pieces:
            yield with_choice(event, delta=_without_content(event) | {"tool_calls": pieces})
        elif finish_reason(event) == "stop" and self._n_calls and not self._arguments:
            yield with_choice(event, finish_reason="tool_calls")
        elif content(event):
            if left := _without_content(event):
                yield with_choice(event, delta=left)
        else:
            yield event

    def rest(self) -> Iterable[Event]:
        return ()

    def _pieces(self) -> Iterator[dict[str, Any]]:
        while self._text:
            if self._arguments is None:
                head = CALL_HEAD.match(self._text)
                if not head:
                    return
                self._text = self._text[head.end() :]
                self._arguments = OpenArguments()
                self._n_calls += 1
                name = json.loads(head[1])
                self._under_check, self._grown = self._checked.get(name), ""
                yield _begun(self._n_calls - 1, name)
            grown, self._text = self._arguments.take(self._text)
            self._grown += grown if self._under_check else ""
            if self._arguments.ended:
                self._arguments = None
                self._check()
            if grown:
                yield {"index": self._n_calls - 1, "function": {"arguments": grown}}

    def _check(self) -> None:
        tool = self._under_check
        if tool and (wrong := breach(tool.arguments, json.loads(self._grown))):
            raise BadAnswer(
                f"The model called {tool.name} with arguments that its schema does not allow: {wrong}.",
                do="Ask again, or leave that out of the schema.",
            )


class OpenArguments:
    """A JSON object that grows."""

    def __init__(self) -> None:
        self.ended = False
        self._depth = 0
        self._in_string = self._escaped = False

    def take(self, text: str) -> tuple[str, str]:
        """What of a text belongs to it, and what comes after."""
        for at, character in enumerate(text, 1):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{}[]":
                self._depth += 1 if character in "{[" else -1
                if self._depth == 0:
                    self.ended = True
                    return text[:at], text[at:]
        return text, ""


class SpottedCalls:
    """An answer that may be a call: held back as long as it may be one, and told as it came when it is none."""

    def __init__(self, use: ToolUse) -> None:
        self._use = use
        self._watch = CallWatch(tool.name for tool in use.tools)
        self._held: list[Event] = []
        self._flows = False

    def read(self, event: Event) -> Iterator[Event]:
        if self._flows:
            yield event
        elif content(event) and not finish_reason(event):
            self._held.append(event)
            if not self._watch.take(content(event)):
                yield from self.rest()
        elif finish_reason(event) or delta(event).get("tool_calls"):  # those are calls that the engine read
            yield from self._decided(event)
        else:
            yield event

    def rest(self) -> Iterator[Event]:
        held, self._held, self._flows = self._held, [], True
        yield from held

    def _decided(self, event: Event) -> Iterator[Event]:
        text = "".join(map(content, (*self._held, event)))
        calls = calls_in(text, self._use) if finish_reason(event) == "stop" else []
        if not calls:
            yield from self.rest()
            yield event
            return
        self._held, self._flows = [], True
        pieces = [
            _begun(i, name) | {"function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}
            for i, (name, arguments) in enumerate(calls)
        ]
        yield with_choice(event, delta={"tool_calls": pieces}, finish_reason=None)
        yield with_choice(event, delta={}, finish_reason="tool_calls")


class CallWatch:
    """Whether an answer may still be nothing but calls of these tools, as it comes. Only its head is read more than
    once."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._head = ""
        self._object: OpenArguments | None = None
        self._after = ""  # the first character behind the first object

    def take(self, piece: str) -> bool:
        if self._object is not None:
            return self._goes_on(self._object, piece)
        self._head += piece
        if not may_begin_calls(self._head, self._names):
            return False
        head = HEAD.match(self._head)
        if not head:
            return len(self._head) <= MOST_HEAD
        self._object = OpenArguments()
        return self._goes_on(self._object, self._head[head.end() :])

    def _goes_on(self, first: OpenArguments, piece: str) -> bool:
        after = piece if first.ended else first.take(piece)[1]
        self._after = self._after or after.lstrip()[:1]
        return self._after in FOLLOWERS


def may_begin_calls(text: str, names: Iterable[str]) -> bool:
    """Whether an answer whose first object is not over yet may become nothing but calls of these tools."""
    rest = text.lstrip()
    if any(opener.startswith(rest) for opener in OPENERS):
        return True
    opener = next((opener for opener in OPENERS if rest.startswith(opener)), "")
    rest = rest.removeprefix(opener).lstrip().removeprefix("[").lstrip()
    if not rest.startswith("{"):
        return not rest
    inner = rest[1:].lstrip()
    if not any(key.startswith(inner) or inner.startswith(key) for key in KEYS):
        return False
    named = NAME.match(inner)
    return not named or _is_one_of(named[1], names)


def _is_one_of(text: str, names: Iterable[str]) -> bool:
    try:
        return json.loads(text) in names
    except ValueError:  # an escape that is none
        return False


def calls_in(text: str, use: ToolUse) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments, where a text is nothing but calls of given tools, bare or wrapped; else none."""
    tools = {tool.name: tool for tool in use.tools}
    try:
        calls = [_call(value, tools) for value in _values(text)]
    except (ValueError, RecursionError):
        return []
    return calls if len(calls) == 1 or use.parallel else []


def _values(text: str) -> Iterator[Any]:
    """The JSON values of a text in which nothing else stands. Raises ValueError."""
    at = _after_wrapping(text, 0)
    while at < len(text):
        value, at = DECODER.raw_decode(text, at)
        yield from value if isinstance(value, list) else [value]
        at = _after_wrapping(text, at)


def _after_wrapping(text: str, at: int) -> int:
    found = WRAPPING.match(text, at)
    return found.end() if found else at


def _call(value: object, tools: Mapping[str, Tool]) -> tuple[str, dict[str, Any]]:
    """A call in one of the spellings that models know. Whether its arguments are right is for the tool to say: the
    model can mend them then. Raises ValueError for what is none."""
    if not isinstance(value, dict) or not value.keys() <= SPELLINGS:
        raise ValueError("no call")
    function = value["function"] if isinstance(value.get("function"), dict) else value
    name = function.get("name")
    if not isinstance(name, str) or name not in tools:
        raise ValueError("no given tool")
    none_needed: Any = None if tools[name].arguments.get("required") else {}
    arguments = function.get("arguments", function.get("parameters", none_needed))
    if isinstance(arguments, str):
        arguments = json.loads(arguments or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("no arguments")
    return name, arguments


def _begun(index: int, name: str) -> dict[str, Any]:
    """The first piece of a call, in OpenAI's shape."""
    call_id = f"call_{secrets.token_hex(12)}"
    return {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}


def _one_a_call(pieces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's client takes the first list of pieces for a list of calls."""
    told: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        if begun := told.get(piece["index"]):
            begun["function"]["arguments"] += piece["function"]["arguments"]
        else:
            told[piece["index"]] = piece
    return list(told.values())


def delta(event: Event) -> Mapping[str, Any]:
    found: Mapping[str, Any] = choice_of(event).get("delta") or {}
    return found


def content(event: Event) -> str:
    return delta(event).get("content") or ""


def with_choice(event: Event, **fields: Any) -> Event:
    """The event with another delta or reason, without the log-probabilities of a text that is a call now."""
    choice = {name: value for name, value in choice_of(event).items() if name != "logprobs"}
    return {**event, "choices": [{**choice, **fields}]}


def _without_content(event: Event) -> dict[str, Any]:
    return {name: value for name, value in delta(event).items() if name != "content"}
