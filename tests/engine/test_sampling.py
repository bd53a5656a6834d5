from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.core.errors import BadSetting
from filbert.core.settings import configured
from filbert.engine.sampling import Sampling
from filbert.engine.schema import MAX_REPEAT

numbers = st.none() | st.floats() | st.integers(-(2**40), 2**40)
wishes = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "max_tokens", "logprobs"), numbers
    ),
)


@given(wishes)
def test_what_is_let_through_is_within_bounds_and_plain_json(given: dict[str, Any]) -> None:
    try:
        sampling = configured(Sampling, given)
    except BadSetting:
        return
    body = sampling.to_engine()
    json.dumps(body, allow_nan=False)
    assert all(math.isfinite(value) and value >= 0 for value in body.values())


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": -0.1},
        {"top_p": 1.1},
        {"top_k": -1},
        {"repeat_penalty": 0},
        {"frequency_penalty": -3},
        {"seed": -1},
        {"seed": 2**32 - 1},  # the engine reads it as "any"
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"logprobs": 100_000_000},
        {"stop": ("x",) * 65},
        {"stop": 5},
        {"grammar": "x" * 64_001},
        {"grammar": 'root ::= "x"{2001}'},
        {"grammar": "hello"},
        {"grammar": "%llguidance {}\nroot ::= nope"},
        {"grammar": 'root ::= "x"{1, 99999999}'},
        {"json_schema": {"type": "string", "maxLength": MAX_REPEAT + 1}},
        {"json_schema": {"items": {"anyOf": [{"minItems": 10**9}]}}},
        {"json_schema": {"description": "x" * 64_000}},
        {"json_schema": "string"},
    ],
    ids=str,
)
def test_absurd_values_are_refused_by_us_and_never_reach_the_engine(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(BadSetting, match=name) as caught:
        configured(Sampling, given)
    assert caught.value.do


def test_a_schema_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    with pytest.raises(BadSetting, match="deep"):
        configured(Sampling, {"json_schema": schema})


def test_one_stop_text_may_come_without_a_list() -> None:
    assert configured(Sampling, {"stop": "\n"}).stop == ("\n",)
    assert configured(Sampling, {"stop": ["a", "b"]}).to_engine() == {"stop": ["a", "b"]}


def test_what_is_left_out_is_left_to_the_models_own_file() -> None:
    assert Sampling().to_engine() == {}


def test_an_empty_stop_text_stops_nothing() -> None:
    assert configured(Sampling, {"stop": ""}).stop == ()
    assert configured(Sampling, {"stop": ["", "zzz"]}).stop == ("zzz",)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "["},
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "string", "pattern": r"^\d{1,1000000}$"},
        {"type": "string", "pattern": r"^\d(?=x)$"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "array", "items": {"type": "string", "minLength": 9, "maxLength": 2}},
        {"type": "number", "maximum": "5"},
        {"type": "number", "exclusiveMinimum": True},
        {"type": "integer", "minimum": math.inf},
        {"type": "integer", "multipleOf": 0},
        {"type": "array", "minItems": -5},
        {"type": "array", "minItems": 2.5},
        {"$ref": "#/a/b"},
        {"$ref": "elsewhere"},
        {"type": "nonsense"},
        {"anyOf": []},
        {"enum": 5},
        {"type": "object", "properties": 5},
        {"type": "string", "pattern": "^" + "(" * 3000 + ")" * 3000 + "$"},
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_a_schema_that_an_answer_could_not_be_held_to_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadSetting):
        configured(Sampling, {"json_schema": schema})


def test_a_property_may_be_called_like_a_keyword_and_a_constant_look_like_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "type": {"const": {"type": "nonsense", "minItems": -1}},
            "enum": {"$ref": "#/$defs/a~1b/anyOf/0"},
        },
        "$defs": {"a/b": {"anyOf": [{"type": ["string", "null"]}]}},
    }
    assert configured(Sampling, {"json_schema": schema}).json_schema == schema


def test_a_value_that_is_refused_is_shown_shortened() -> None:
    with pytest.raises(BadSetting) as refused:
        configured(Sampling, {"json_schema": {"enum": [f"value {i}" for i in range(100_000)]}})
    assert len(str(refused.value)) < 500
