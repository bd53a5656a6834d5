"""Calls that must be, where the schema leaves open how long they are: each comes whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

import filbert
from filbert import Message, Sampling, Tool
from filbert.engine.schema import MAX_REPEAT, bounded_schema
from filbert.engine.schema_bounds import LEVELS, bounded_pattern, ending_within


def needs(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


TEXT = {"type": "string"}
NODE = needs(name=TEXT, children={"type": "array", "items": {"$ref": "#/$defs/Node"}})
OPEN: Mapping[str, Mapping[str, Any]] = {
    "text": needs(text=TEXT),
    "objects": needs(items={"type": "array", "items": needs(name=TEXT, count={"type": "integer"})}),
    "tree": {**needs(root={"$ref": "#/$defs/Node"}), "$defs": {"Node": NODE}},
    "free": {"type": "object", "additionalProperties": True},
    "anything": needs(value={}),
    "nothing": {},
    "pattern": needs(to={"type": "string", "pattern": "^[^@]+@[a-z]+$"}, all={"type": "string", "pattern": "^.+$"}),
}
FREE = ("free", "anything")
MANY = [Tool(f"tool{i}", "", needs(**{f"text{i}": TEXT})) for i in range(64)]


def call_of(model: filbert.Model, tools: list[Tool], **wish: Any) -> filbert.Reply:
    """Asked so that it goes on and on; the one call of the answer holds to the schema of its tool."""
    asked = [Message("user", "Call it with la la la la la la la, and go on without end.")]
    reply = model.respond(asked, Sampling.model_validate(wish), tools, "required").reply()
    if reply.finish.reason == "length" and any(OPEN[name] == tools[0].parameters for name in FREE):
        return reply  # its names cannot be counted: then it must say so
    assert reply.finish.reason == "tool_calls"
    (call,) = reply.tool_calls
    (tool,) = [tool for tool in tools if tool.name == call["function"]["name"]]
    jsonschema.validate(json.loads(call["function"]["arguments"]), dict(tool.parameters))
    return reply


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("name", OPEN)
def test_a_call_that_a_schema_leaves_open_comes_whole(model: filbert.Model, name: str, seed: int | None) -> None:
    wish = {"temperature": 0} if seed is None else {"temperature": 1.0, "seed": seed}
    reply = call_of(model, [Tool("do", "Do it.", OPEN[name])], max_tokens=200 + 100 * (seed or 0), **wish)
    assert reply.usage.completion_tokens <= 500


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "tree", "free"])
def test_a_call_without_a_token_limit_comes_whole(model: filbert.Model, name: str) -> None:
    call_of(model, [Tool("do", "Do it.", OPEN[name])], temperature=0)


@pytest.mark.slow
def test_one_of_many_open_tools_comes_whole(model: filbert.Model) -> None:
    call_of(model, MANY[:32], temperature=0, max_tokens=200)


def test_a_model_that_knows_no_end_is_brought_to_one(tiny_model: filbert.Model) -> None:
    flags = {"type": "array", "items": {"type": "boolean"}, "minItems": 3}
    rows = needs(rows={"type": "array", "items": flags, "minItems": 2})
    for seed in range(4):
        call_of(tiny_model, [Tool("do", "Do it.", rows)], temperature=1.0, seed=seed, max_tokens=900)


def test_several_calls_share_the_tokens(model: filbert.Model) -> None:
    wish = Sampling.model_validate({"temperature": 0, "max_tokens": 600})
    tools = [Tool("do", "", OPEN["text"])]
    reply = model.respond([Message("user", "Do it.")], wish, tools, "required", parallel_tool_calls=True).reply()
    assert reply.finish.reason == "tool_calls"
    assert all(json.loads(call["function"]["arguments"]).keys() == {"text"} for call in reply.tool_calls)


@pytest.mark.parametrize("tokens", [1, 30, 400, 4000, 100_000])
@pytest.mark.parametrize("name", OPEN)
def test_what_is_narrowed_is_a_schema_that_the_engine_takes(name: str, tokens: int) -> None:
    held = ending_within(OPEN[name], tokens)
    jsonschema.Draft202012Validator.check_schema(held)
    assert len(json.dumps(bounded_schema(held))) < 64_000


def test_minimums_win_and_smaller_maximums_stay() -> None:
    long = {"type": "string", "minLength": 900}
    most = {"type": "array", "items": {"type": "null"}, "maxItems": 2}
    least = {"type": "array", "items": {"type": "null"}, "minItems": 70}
    held = ending_within({"prefixItems": [long, most, least]}, 90)
    assert held["$defs"]["part0"] == {**long, "maxLength": 900}
    assert [(each["minItems"], each["maxItems"]) for each in held["items"][1:]] == [(0, 1), (70, 70)]


def test_a_schema_that_holds_itself_does_so_a_few_times() -> None:
    held = ending_within(OPEN["tree"], 100_000)
    deepest: Any = {"name": "x", "children": []}
    for _ in range(LEVELS - 1):
        deepest = {"name": "x", "children": [deepest]}
    jsonschema.validate({"root": deepest}, held)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"root": {"name": "x", "children": [deepest]}}, held)


def test_a_property_that_cannot_end_is_left_out_and_does_not_come_back_under_its_name() -> None:
    endless = {"$ref": "#/$defs/Endless"}
    schema = {**needs(a=TEXT), "$defs": {"Endless": needs(again=endless)}, "additionalProperties": True}
    schema["properties"] = {"a": TEXT, "b": endless}
    held = ending_within(schema, 1000)
    jsonschema.validate({"a": "x"}, held)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": "x", "b": 1}, held)
    assert ending_within({**endless, "$defs": schema["$defs"]}, 1000) == {**endless, "$defs": schema["$defs"]}


def test_schemas_that_hold_each_other_stay_small() -> None:
    names = [f"N{i}" for i in range(12)]
    every = [{"$ref": f"#/$defs/{name}"} for name in names]
    nodes = {name: {"type": "object", "properties": {f"p{i}": each for i, each in enumerate(every)}} for name in names}
    held = ending_within({"anyOf": every, "$defs": nodes}, 4000)
    assert len(json.dumps(held)) < 300_000


def test_a_name_that_is_required_and_not_declared_is_asked_for() -> None:
    held = ending_within({"type": "object", "required": ["to"], "additionalProperties": TEXT}, 400)
    assert held["required"] == ["to"] and "to" in held["properties"]


@pytest.mark.parametrize(
    ("pattern", "holds", "forbids"),
    [
        (r"^[^@.]+@[a-z.]+$", ["a@b.c"], ["@b", 'a"b@c', "a" * 300 + "@b"]),
        (r"^\d{2,}[*+]x*$", ["12+", "123*xx"], ["1+", "12"]),
        (r"^(a+b*)*$", ["", "aab", "abab"], ["b"]),
        (r"^\.\*$", [".*"], ["..", "a*"]),
    ],
)
def test_repetitions_of_a_pattern_end(pattern: str, holds: list[str], forbids: list[str]) -> None:
    bounded = bounded_pattern(pattern, 400)
    assert all(re.search(bounded, text) for text in holds)
    assert not any(re.search(bounded, text) for text in forbids)


def test_a_long_text_may_be_longer_than_the_engine_counts() -> None:
    held = ending_within(TEXT, 10_000)["$defs"]["part0"]
    assert re.search(held["pattern"], "x" * (MAX_REPEAT * 3))
    assert re.search(held["pattern"], r"\n\"" * 700)
    assert not re.search(held["pattern"], "x" * (MAX_REPEAT * 4 + 4))
    assert not re.search(held["pattern"], '"') and not re.search(held["pattern"], "\\")
