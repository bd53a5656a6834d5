"""Bounds of whole numbers, where a model would rather say another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from filbert import Message, Model, Sampling
from filbert.core.errors import BadInput
from filbert.engine.schema_integers import MOST, MOST_OF_ENGINE, with_both_bounds


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        ({"minimum": 1001}, 1001, MOST),
        ({"exclusiveMinimum": 1000}, 1001, MOST),
        ({"minimum": 5, "exclusiveMinimum": 7.5}, 8, MOST),
        ({"maximum": -15}, -MOST, -15),
        ({"exclusiveMaximum": 3.5, "minimum": 0.1}, 1, 3),
        ({"minimum": 2**60}, 2**60, MOST_OF_ENGINE),
        ({"maximum": -(2**60)}, -MOST_OF_ENGINE, -(2**60)),
    ],
)
def test_a_bound_gets_the_other(given: dict[str, Any], low: int, high: int) -> None:
    for kind in ("integer", ["integer", "null"]):
        schema = {"properties": {"a": {"type": kind, **given}}}
        assert with_both_bounds(schema) == {"properties": {"a": {"type": kind, "minimum": low, "maximum": high}}}


def test_what_bounds_no_whole_number_stays_as_it_is() -> None:
    for part in ({"type": "integer"}, {"type": "number", "minimum": 1}):
        assert with_both_bounds(part) == part


@pytest.mark.parametrize(
    "given", [{"exclusiveMinimum": 3, "exclusiveMaximum": 4}, {"minimum": 1e30}, {"maximum": 1, "exclusiveMinimum": 1}]
)
def test_bounds_between_which_nothing_lies_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="No whole number"):
        with_both_bounds({"type": "integer", **given})


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ({"minimum": 1001}, 1001, MOST),
        ({"exclusiveMinimum": 1000}, 1001, MOST),
        ({"maximum": -15}, -MOST, -15),
        ({"minimum": -1005, "maximum": 1010}, -1005, 1010),
    ],
)
def test_an_answer_holds_to_the_bounds(model: Model, bounds: dict[str, Any], low: int, high: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", **bounds}}, "required": ["a"]}
    wish = Sampling.model_validate({"temperature": 0, "json_schema": schema, "max_tokens": 40})
    said = json.loads(model.respond([Message("user", "Say 100.")], wish).reply().text)
    assert low <= said["a"] <= high
