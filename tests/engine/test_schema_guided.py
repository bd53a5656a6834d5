"""Calls that must be: what the engine's own grammar does not hold them to, another does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import filbert
from filbert import Message, Sampling, Tool
from filbert.core.errors import BadInput
from filbert.engine.schema_guided import guided

NUMBERS: dict[str, dict[str, Any]] = {
    "place": {"type": "number", "minimum": -90, "maximum": 90},
    "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "above": {"type": "number", "minimum": 0.5},
    "late": {"type": "number", "minimum": 1.6e12},
    "below": {"type": "number", "maximum": -1.5},
    "fives": {"type": "integer", "multipleOf": 5},
    "tens": {"type": "integer", "multipleOf": 10, "maximum": -5},
    "quarters": {"type": "number", "multipleOf": 0.25, "minimum": -3, "maximum": 3},
    "maybe": {"type": ["number", "null"], "minimum": 0.1, "maximum": 0.9},
    "list": {"type": "array", "items": {"type": "integer", "multipleOf": 7}},
    "free": {"type": "object", "additionalProperties": {"type": "number", "maximum": 1, "minimum": -1}},
    "pair": {"type": "array", "prefixItems": [{"type": "number", "minimum": 2}, {"type": "string"}]},
}


def needs(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: NUMBERS[name]}, "required": [name]}


def arguments_of(model: filbert.Model, schema: dict[str, Any], **wish: Any) -> Any:
    asked = [Message("user", "Call it with Berlin, -52.52, 13.405 and 7 la la la.")]
    sampling = Sampling.model_validate({"max_tokens": 200, **wish})
    reply = model.respond(asked, sampling, [Tool("do", "Do it.", schema)], "required").reply()
    assert reply.finish.reason == "tool_calls"
    (call,) = reply.tool_calls
    arguments = json.loads(call["function"]["arguments"])
    jsonschema.validate(arguments, schema)
    return arguments


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_a_call_holds_to_bounds_and_multiples(model: filbert.Model, name: str) -> None:
    arguments_of(model, needs(name), temperature=1.0, seed=1)


@pytest.mark.slow
def test_an_object_of_any_names_ends(model: filbert.Model) -> None:
    for seed in range(2):
        found = arguments_of(model, {"type": "object", "additionalProperties": True}, temperature=1.0, seed=seed)
        assert len(found) <= 8


BOUNDED = st.tuples(st.integers(-50, 50), st.integers(1, 60)).map(
    lambda pair: {"type": "number", "minimum": pair[0] / 4, "exclusiveMaximum": (pair[0] + pair[1]) / 4}
)
SIMPLE = st.one_of(
    BOUNDED,
    st.integers(2, 12).map(lambda step: {"type": "integer", "multipleOf": step, "minimum": 0, "maximum": 10 * step}),
    st.just({"type": "string", "maxLength": 8}),
    st.just({"enum": ["a", 1, None]}),
)
PARTS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        inner.map(lambda item: {"type": "array", "items": item, "minItems": 1, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=2).map(lambda choices: {"anyOf": choices}),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2).map(
            lambda fields: {"type": "object", "properties": fields, "required": list(fields)}
        ),
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(part=PARTS, seed=st.integers(0, 99))
def test_a_call_holds_to_whatever_its_schema_is_made_of(model: filbert.Model, part: dict[str, Any], seed: int) -> None:
    schema = {"type": "object", "properties": {"it": part}, "required": ["it"]}
    arguments_of(model, schema, temperature=1.0, seed=seed, max_tokens=400)


def test_what_the_engine_holds_itself_is_left_to_it() -> None:
    for part in ({"type": "integer", "minimum": 1}, {"type": "number"}, {"type": "string", "pattern": "^a$"}):
        assert guided({"type": "object", "properties": {"a": part}, "additionalProperties": False}) is None


@pytest.mark.parametrize("part", [{"type": "string", "format": "uri"}, {"allOf": [{"type": "string"}]}, {"not": {}}])
def test_what_llguidance_refuses_is_left_to_the_engine(part: dict[str, Any]) -> None:
    assert guided({"anyOf": [part, {"type": "number", "minimum": 0}]}) is None


@pytest.mark.parametrize("bounds", [{"minimum": 1, "maximum": 2}, {"minimum": -5, "maximum": -3}])
def test_multiples_of_which_none_is_within_the_bounds_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="No multiple of 7 is from"):
        guided({"type": "number", "multipleOf": 7, **bounds})


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ({"type": "integer", "multipleOf": 10, "maximum": -5, "minimum": -40}, [-10, -20, -30, -40]),
        ({"type": "integer", "multipleOf": 10, "exclusiveMaximum": -10, "exclusiveMinimum": -40}, [-20, -30]),
        ({"type": "number", "multipleOf": 0.1, "minimum": -0.3, "maximum": -0.1}, [-0.1, -0.2, -0.3]),
    ],
)
def test_multiples_below_zero_are_counted_out(part: dict[str, Any], values: list[int]) -> None:
    grammar = guided(part)
    assert grammar and json.loads(grammar.partition("%json ")[2])["enum"] == values
