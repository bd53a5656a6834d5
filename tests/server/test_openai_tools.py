"""Tools through OpenAI's own client, on a model whose template knows none."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from running_server import STARTER, RunningServer

PARAMETERS = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["town", "unit"],
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather of a town.", "parameters": PARAMETERS},
}
TIME: Any = {"type": "function", "function": {"name": "time", "description": "The time now."}}
WISH: Any = {"temperature": 0, "max_tokens": 200}
ASK = "How is the weather in Ulm? Use C."


def test_required_gives_one_call_with_its_usage(server: RunningServer) -> None:
    answer = server.chat(ASK, tools=[WEATHER, TIME], tool_choice="required", logprobs=True, stop="}", **WISH)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, choice.logprobs) == ("tool_calls", None, None)
    assert call.function.name == "weather" and call.id.startswith("call_")
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)
    assert answer.usage.completion_tokens > 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_call_is_the_whole_one_and_its_arguments_grow(server: RunningServer) -> None:
    wish = {"tools": [WEATHER], "tool_choice": "required", **WISH}
    (whole,) = server.chat(ASK, **wish).choices[0].message.tool_calls
    chunks = list(server.chat(ASK, stream=True, stream_options={"include_usage": True}, **wish))
    pieces = [piece for chunk in chunks if chunk.choices for piece in chunk.choices[0].delta.tool_calls or []]
    assert pieces[0].function.name == "weather" and pieces[0].id and {piece.index for piece in pieces} == {0}
    assert len(pieces) > 4
    assert "".join(piece.function.arguments for piece in pieces) == whole.function.arguments
    assert not any(chunk.choices[0].delta.content for chunk in chunks if chunk.choices)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].usage.completion_tokens > 10


def test_a_named_function_is_the_one_that_is_called(server: RunningServer) -> None:
    chosen = {"type": "function", "function": {"name": "time"}}
    (call,) = server.chat(ASK, tools=[WEATHER, TIME], tool_choice=chosen, **WISH).choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("time", {})


@pytest.mark.slow
def test_parallel_calls_may_be_several(server: RunningServer) -> None:
    wish: Any = {"tools": [TIME], "tool_choice": "required", "parallel_tool_calls": True, "max_tokens": 400}
    calls = server.chat(ASK, temperature=0, **wish).choices[0].message.tool_calls
    assert {(call.function.name, *json.loads(call.function.arguments)) for call in calls} == {("time",)}
    assert len({call.id for call in calls}) == len(calls) > 1
    chunks = server.chat(ASK, stream=True, temperature=0, **wish)
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    begun = [piece for piece in pieces if piece.id]
    assert [piece.index for piece in begun] == list(range(len(calls)))
    assert len({piece.id for piece in begun}) == len(begun)
    assert [piece.index for piece in pieces] == sorted(piece.index for piece in pieces)


def test_auto_streams_text_that_is_no_call_and_keeps_its_logprobs(server: RunningServer) -> None:
    wish: Any = {"temperature": 0, "max_tokens": 12}
    question = "What is the capital of France?"
    for more in ({}, {"logprobs": True}):
        whole = server.chat(question, tools=[WEATHER], **wish, **more).choices[0]
        chunks = [c.choices[0] for c in server.chat(question, tools=[WEATHER], stream=True, **wish, **more)]
        said = "".join(choice.delta.content or "" for choice in chunks)
        assert (said, chunks[-1].finish_reason) == (whole.message.content, whole.finish_reason) != ("", "")
        assert len([choice for choice in chunks if choice.delta.content]) > 4
    tokens = [token.token for choice in chunks if choice.logprobs for token in choice.logprobs.content or []]
    assert "".join(tokens) == said


@pytest.mark.parametrize("stream", [False, True])
def test_auto_reads_an_answer_that_is_a_call_as_one(server: RunningServer, stream: bool) -> None:
    """The grammar of the answer says what the model writes; a client's own schema gives it."""
    call = {"type": "object", "properties": {"name": {"const": "weather"}, "arguments": PARAMETERS}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {**call, "required": ["name", "arguments"]}}}
    answer = server.chat(ASK, tools=[WEATHER], response_format=form, stream=stream, **WISH)
    if stream:
        choices = [chunk.choices[0] for chunk in answer]
        calls = [piece for choice in choices for piece in choice.delta.tool_calls or []]
        assert not any(choice.delta.content for choice in choices)
    else:
        choices, calls = answer.choices, answer.choices[0].message.tool_calls
    (only,) = calls
    assert (only.function.name, choices[-1].finish_reason) == ("weather", "tool_calls")
    jsonschema.validate(json.loads(only.function.arguments), PARAMETERS)


@pytest.mark.slow
def test_calls_and_results_go_back_in(server: RunningServer) -> None:
    first = server.chat(ASK, tools=[WEATHER], tool_choice="required", **WISH).choices[0].message
    messages: list[Any] = [
        {"role": "user", "content": ASK},
        first.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "Hail."},
    ]
    for more in ({"tools": [WEATHER]}, {}):
        answer = server.openai.chat.completions.create(model=STARTER, messages=messages, max_tokens=20, **more)
        before = server.openai.chat.completions.create(model=STARTER, messages=messages[:1], max_tokens=20, **more)
        assert answer.usage and before.usage
        assert answer.usage.prompt_tokens > before.usage.prompt_tokens + 5
        assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


@pytest.mark.slow
def test_no_tool_is_called_where_none_may_be(server: RunningServer) -> None:
    bare, none = (server.chat(ASK, **WISH, **more) for more in ({}, {"tools": [WEATHER], "tool_choice": "none"}))
    assert (none.choices[0].message.content, none.usage.prompt_tokens) == (
        bare.choices[0].message.content,
        bare.usage.prompt_tokens,
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tool_choice": "required"}, "there is none"),
        ({"tools": [WEATHER, WEATHER]}, "same name"),
        ({"tools": [WEATHER], "extra_body": {"grammar": 'root ::= "x"'}}, "grammar and call tools"),
        ({"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "array"}}}]}, "an object"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "1 to 256 characters"),
        ({"tools": [TIME] * 129}, "128"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_called_is_refused_in_a_sentence(server: RunningServer, fields: Any, says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        server.chat(**fields)


def test_tools_beyond_the_context_are_a_400(server: RunningServer) -> None:
    tools = [{"type": "function", "function": {"name": f"t{i}", "description": "word " * 200}} for i in range(40)]
    with pytest.raises(openai.BadRequestError) as refused:
        server.chat(tools=tools)
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize("wrapped", [True, False])
def test_tools_that_are_allowed_are_the_only_ones(server: RunningServer, wrapped: bool) -> None:
    allowed: Any = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    flat: Any = {"mode": "required", "tools": [{"type": "function", "name": "time"}]}
    choice = {"type": "allowed_tools", **({"allowed_tools": allowed} if wrapped else flat)}
    (call,) = server.chat(ASK, tools=[WEATHER, TIME], tool_choice=choice, **WISH).choices[0].message.tool_calls
    assert call.function.name == "time"


def test_an_allowed_tool_that_is_none_and_functions_of_old_are_refused(server: RunningServer) -> None:
    choice: Any = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "rain"}]}
    with pytest.raises(openai.BadRequestError, match="allows 'rain', which is none of the tools"):
        server.chat(ASK, tools=[TIME], tool_choice=choice, **WISH)
    with pytest.raises(openai.BadRequestError, match="it has become tools and tool_choice"):
        server.chat(ASK, extra_body={"functions": [{"name": "time"}]}, **WISH)
