"""Calls read out of text, as it comes in pieces of any size."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.core.errors import BadAnswer, BadInput
from filbert.engine.generation import Reply, gather, read_event
from filbert.engine.tool_calls import CallWatch, calls_in, reader
from filbert.engine.tools import Tool, tool_use

WEATHER = Tool("weather", "", {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]})
TIME = Tool("time")
ONE = '{"name": "weather", "arguments": {"town": "Ulm \\"}{ ü"}}'
TOWN = {"town": 'Ulm "}{ ü'}


def event(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def told(pieces: Iterable[str], choice: str = "auto", finish: str = "stop") -> list[dict[str, Any]]:
    """What becomes of an answer in pieces."""
    reading = reader(tool_use([WEATHER, TIME], choice))
    assert reading
    events = [*map(event, pieces), event(None, finish)]
    return [out for each in events for out in reading.read(each)] + list(reading.rest())


def reply_of(events: Iterable[dict[str, Any]]) -> Reply:
    return gather([read_event(each, "stop") for each in events])


def reasons(events: Iterable[dict[str, Any]]) -> list[str]:
    return [each["choices"][0]["finish_reason"] for each in events if each["choices"][0]["finish_reason"]]


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        f"\n {ONE} \n",
        f"```json\n{ONE}\n```",
        f"```\n{ONE}\n```\n",
        f"```json\n{ONE}",
        f"<tool_call>\n{ONE}\n</tool_call>",
        f"<tool_call>{ONE}",
        f"[{ONE}]",
        f"```json\n[\n{ONE}\n]\n```",
        ONE.replace("arguments", "parameters"),
        json.dumps({"name": "weather", "arguments": json.dumps(TOWN)}),
        json.dumps({"type": "function", "id": "7", "function": {"name": "weather", "arguments": json.dumps(TOWN)}}),
        json.dumps({"type": "function", "name": "weather", "parameters": TOWN}),
        json.dumps({"arguments": TOWN, "name": "weather"}, indent=2),
    ],
    ids=str,
)
def test_an_answer_that_is_nothing_but_a_call_is_one_however_it_is_spelled(text: str) -> None:
    assert calls_in(text, tool_use([WEATHER])) == [("weather", TOWN)]
    for size in (1, 3, len(text)):
        events = told([text[at : at + size] for at in range(0, len(text), size)])
        reply = reply_of(events)
        assert reply.text == ""
        assert [json.loads(call["function"]["arguments"]) for call in reply.tool_calls] == [TOWN]
        assert reasons(events) == ["tool_calls"]


@pytest.mark.parametrize(
    "text",
    [
        "The weather is fine.",
        f"I call it: {ONE}",
        f"{ONE} and then some",
        f"```python\n{ONE}\n```",
        '{"name": "rain", "arguments": {}}',
        '{"name": "weather", "arguments": 7}',
        '{"name": "weather", "arguments": "{"}',
        '{"name": "weather"}',
        '{"name": "weather", "arguments": {"town": "Ulm"}, "sky": 1}',
        '{"name": "Ada", "age": 3}',
        '{"na\\x": 1}',
        '{"name": "\\x"}',
        '{"town": "Ulm"}',
        '["weather"]',
        "```json\n[1, 2]\n```",
        "{",
        "",
        "[" * 100_000,
    ],
    ids=lambda text: text[:24],
)
def test_any_other_answer_stays_the_text_it_is(text: str) -> None:
    assert calls_in(text, tool_use([WEATHER])) == []
    events = told(list(text[:200]))
    assert events == [*map(event, text[:200]), event(None, "stop")]


def test_a_tool_without_arguments_is_called_by_its_name() -> None:
    assert calls_in('{"name": "time"}', tool_use([TIME])) == [("time", {})]


def test_several_calls_are_read_unless_one_is_asked_for() -> None:
    two = f"<tool_call>{ONE}</tool_call>\n<tool_call>{ONE}</tool_call>"
    assert calls_in(two, tool_use([WEATHER])) == [("weather", TOWN)] * 2
    assert calls_in(two, tool_use([WEATHER], parallel=False)) == []


def test_text_is_held_back_only_as_long_as_it_may_be_a_call() -> None:
    names = {"weather"}
    for text in ("", " ", "{", "``", "```js", "<tool", '{"na', '{"name": "weat', "```json\n[{", ONE, f"{ONE}\n```"):
        assert CallWatch(names).take(text), text
        assert all(map(CallWatch(names).take, text)), text
    for text in ("T", "{T", "```p", "<to ", '{"nb', '{"name": "rain"', "[1", f"{ONE} T"):
        assert not CallWatch(names).take(text), text
        assert not all(map(CallWatch(names).take, text)), text


@pytest.mark.parametrize(
    "head",
    ['{"name": "weather", "arguments": {"town": "', '{"arguments": [', f"{ONE}\n```", " " * 90],
    ids=lambda head: head[:20],
)
def test_an_answer_of_any_length_is_read_once(head: str) -> None:
    counts = []
    for n_tokens in (2_000, 4_000):
        reading = reader(tool_use([WEATHER, TIME]))
        assert reading
        events = [*map(event, head), *[event("ab ")] * n_tokens, event(None, "stop")]
        calls: Counter[str] = Counter()
        sys.setprofile(lambda frame, kind, what, calls=calls: calls.update([getattr(what, "__name__", kind)]))
        try:
            told = [out for each in events for out in reading.read(each)]
        finally:
            sys.setprofile(None)
        assert told == events
        assert calls["raw_decode"] + calls["scan_once"] + calls["match"] < 1_500
        counts.append(sum(calls.values()))
    assert counts[1] < 2.1 * counts[0]


def test_an_answer_that_was_cut_is_text() -> None:
    assert told([ONE], finish="length") == [event(ONE), event(None, "length")]


def test_what_is_held_back_when_the_events_end_is_told() -> None:
    reading = reader(tool_use([WEATHER]))
    assert reading and list(reading.read(event("{"))) == []
    assert list(reading.rest()) == [event("{")]


def test_calls_that_the_engine_read_itself_pass() -> None:
    piece = {"id": "1", "choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}]}
    reading = reader(tool_use([WEATHER]))
    assert reading
    out = [told for each in (event("\n"), piece, event(None, "tool_calls")) for told in reading.read(each)]
    assert out == [event("\n"), piece, event(None, "tool_calls")]


def test_an_event_tells_of_each_call_once() -> None:
    """OpenAI's client takes the pieces in the first event for as many calls."""
    calls = [{"name": "weather", "arguments": TOWN}, {"name": "time", "arguments": {}}]
    for size in (5, 50, 500):
        text = json.dumps(calls)
        events = told([text[at : at + size] for at in range(0, len(text), size)], "required")
        told_of = [[call["index"] for call in each["choices"][0]["delta"].get("tool_calls", [])] for each in events]
        assert {index for indexes in told_of for index in indexes} == {0, 1}
        assert all(len(set(indexes)) == len(indexes) for indexes in told_of)
        assert [json.loads(call["function"]["arguments"]) for call in reply_of(events).tool_calls] == [TOWN, {}]


def test_a_call_loses_the_logprobs_of_its_text() -> None:
    reading = reader(tool_use([WEATHER], "required"))
    assert reading
    (out,) = reading.read(event(ONE, logprobs={"content": []}))
    assert "logprobs" not in out["choices"][0]


NO_TEN = {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 10}}}, "required": ["n"]}
NOT_A = {"type": "object", "properties": {"text": {"type": "string", "not": {"pattern": "^(a|a)*$"}}}}
TWO = {
    "type": "object",
    "properties": {"ns": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
    "minProperties": 1,
}


@pytest.mark.parametrize(
    ("schema", "arguments", "wrong"),
    [
        (NO_TEN, {"n": 11}, ""),
        (NO_TEN, {"n": 10}, "n breaks 'not'"),
        (TWO, {"ns": [1, 2]}, ""),
        (TWO, {"ns": [1, 1]}, "ns breaks 'uniqueItems'"),
        (TWO, {}, "it breaks 'minProperties'"),
        (NOT_A, {"text": "a" * 60 + "b"}, ""),  # to read it by that expression takes for ever
    ],
)
def test_a_required_call_that_breaks_what_no_grammar_holds_is_an_error(
    schema: dict[str, Any], arguments: dict[str, Any], wrong: str
) -> None:
    reading = reader(tool_use([Tool("count", parameters=schema)], "required"))
    assert reading
    pieces = [event(piece) for piece in json.dumps({"name": "count", "arguments": arguments})]
    if wrong:
        with pytest.raises(BadAnswer, match=re.escape(wrong)):
            [told for piece in pieces for told in reading.read(piece)]
    else:
        (call,) = reply_of(told for piece in pieces for told in reading.read(piece)).tool_calls
        assert json.loads(call["function"]["arguments"]) == arguments


@pytest.mark.parametrize("wish", [{"not": {"$ref": "#/nowhere"}}, {"not": 3}, {"uniqueItems": "x"}])
def test_a_call_whose_schema_is_none_is_told_to_mend_it(wish: dict[str, Any]) -> None:
    reading = reader(tool_use([Tool("count", parameters={"properties": {"n": wish}})], "required"))
    assert reading
    with pytest.raises(BadInput, match="cannot be checked against its schema"):
        list(reading.read(event('{"name": "count", "arguments": {"n": 1}}')))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), VALUES), st.integers(1, 7), st.booleans(), st.sampled_from([None, 1]))
def test_a_held_call_is_told_whole_whatever_its_arguments_and_pieces(
    arguments: dict[str, Any], size: int, many: bool, indent: int | None
) -> None:
    call = {"name": "time", "arguments": arguments}
    text = json.dumps([call, call] if many else call, ensure_ascii=False, indent=indent)
    events = told([text[at : at + size] for at in range(0, len(text), size)], "required")
    calls = reply_of(events).tool_calls
    assert [json.loads(each["function"]["arguments"]) for each in calls] == [arguments] * (1 + many)
    assert {each["function"]["name"] for each in calls} == {"time"}
    assert reasons(events) == ["tool_calls"]


@given(st.text(), st.integers(1, 7))
def test_no_character_of_a_text_is_lost_or_moved(text: str, size: int) -> None:
    reply = reply_of(told([text[at : at + size] for at in range(0, len(text), size)]))
    assert reply.text == text
