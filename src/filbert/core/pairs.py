"""Pairs of a prompt and its answer, as files of JSON lines have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from filbert.core.errors import BadInput
from filbert.core.messages import Message

SHOWN = 5  # lines that a sentence names
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Pair:
    """line: of the file it is from, by which it is found again."""

    line: int
    messages: tuple[Message, ...]
    response: str

    @property
    def text(self) -> str:
        """The prompt as it stands, without a chat template."""
        return "\n\n".join(message.text for message in self.messages)


def read_pairs(text: str, name: str) -> list[Pair]:
    """A pair a line of JSON: `prompt` and `response`; or `instruction`, `input` and `output`; or these two within
    `instances`, as in Self-Instruct; or `messages`, of which the last is the answer. Raises BadInput that names the
    lines which hold none: a file is read whole or not at all."""
    pairs: list[Pair] = []
    wrong: list[str] = []
    lines = text.split("\n")  # other line ends may stand within JSON
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pairs += _pairs_of(_json(line, is_cut=number == len(lines)), number)
        except ValueError as exc:
            wrong.append(f"line {number} {exc}")
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise BadInput(
            f"{name} cannot be read: {'; '.join(wrong[:SHOWN])}{more}.",
            do='Write a pair a line: {"prompt": "…", "response": "…"}.',
        )
    if not pairs:
        raise BadInput(f"{name} holds no pairs.", do='Write a pair a line: {"prompt": "…", "response": "…"}.')
    return pairs


def _json(line: str, *, is_cut: bool) -> object:
    """is_cut: nothing ends the line, so that one which is not JSON was not written to its end."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ValueError("ends in the middle" if is_cut else "is not JSON") from exc


def _pairs_of(item: object, line: int) -> Iterator[Pair]:
    if not isinstance(item, dict):
        raise ValueError("is no JSON object")
    if "messages" in item:
        *before, answer = _conversation(item["messages"])
        yield Pair(line, tuple(before), answer.text)
    elif "instances" in item:
        instances = item["instances"]
        if not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
            raise ValueError("has instances that are no list of objects")
        for each in instances:
            yield _instructed(item, each, line)
    elif "instruction" in item:
        yield _instructed(item, item, line)
    else:
        yield Pair(line, (Message("user", _field(item, "prompt")),), _field(item, "response"))


def _instructed(item: Mapping[str, Any], instance: Mapping[str, Any], line: int) -> Pair:
    parts = [_field(item, "instruction"), _field(instance, "input") if "input" in instance else ""]
    prompt = "\n\n".join(part for part in parts if part.strip())
    return Pair(line, (Message("user", prompt),), _field(instance, "output"))


def _field(item: Mapping[str, Any], name: str) -> str:
    if name not in item:
        raise ValueError(f"has no {name}")
    if not isinstance(item[name], str):
        raise ValueError(f"has a {name} that is no text")
    return str(item[name])


def _conversation(messages: object) -> list[Message]:
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(each, dict) for each in messages):
        raise ValueError("has messages that are no list of two or more")
    if unknown := next((each.get("role") for each in messages if each.get("role") not in ROLES), None):
        raise ValueError(f"has a message of the role {unknown!r}")
    if messages[-1].get("role") != "assistant":
        raise ValueError("ends in a message that is no assistant's")
    return [Message(each["role"], _field(each, "content")) for each in messages]
