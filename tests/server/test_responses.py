"""OpenAI's /v1/responses through OpenAI's own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from PIL import Image
from pydantic import BaseModel

from filbert.server.bodies_responses import ResponsesBody
from filbert.server.keys import Keys, Wanted
from running_server import FOR_EVER, STARTER, RunningServer, documents, install, serving

PARIS = "What is the capital of France? Answer in one sentence."
PARAMETERS = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["town", "unit"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": PARAMETERS,
    "strict": True,
}
TIME = {"type": "function", "name": "time", "description": "The time now.", "parameters": None, "strict": None}
ASK = "How is the weather in Ulm? Use C."
THOUGHT = {"grammar": 'root ::= "Two and two.</think>Four."', "think": "on"}
CUT_THOUGHT = {"grammar": 'root ::= "Two" [a-z]{300}', "think": "on"}


def name_of(server: RunningServer) -> str:
    return server.openai.models.list().data[0].id


def respond(server: RunningServer, input: Any = "Say hi.", **fields: Any) -> Any:
    fields = {"model": name_of(server), "max_output_tokens": 8, "temperature": 0, **fields}
    return server.openai.responses.create(input=input, **fields)


def streamed(server: RunningServer, input: Any = "Say hi.", **fields: Any) -> list[Any]:
    events = list(respond(server, input, stream=True, **fields))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


def types(events: list[Any]) -> list[str]:
    """Of the events, repeated ones once."""
    found = [event.type.removeprefix("response.") for event in events]
    return [each for at, each in enumerate(found) if at == 0 or each != found[at - 1]]


def named(response: Response) -> dict[str, Any]:
    """Without what each response has for itself: names, times, and how much of the prompt was remembered."""
    told = json.loads(response.to_json())
    for item in told["output"]:
        item["id"] = item["call_id"] = ""
    tokens = {name: told["usage"][name] for name in ("input_tokens", "output_tokens", "output_tokens_details")}
    return told | {"id": "", "created_at": 0, "completed_at": 0, "usage": tokens}


def test_a_response_answers_with_its_usage_and_what_was_asked(server: RunningServer) -> None:
    response = respond(server, PARIS, max_output_tokens=30, instructions="Be brief.", metadata={"for": "a test"})
    (message,) = response.output
    assert "Paris" in response.output_text
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert response.id.startswith("resp_") and message.id.startswith("msg_")
    assert (response.object, response.status, response.model) == ("response", "completed", STARTER)
    assert (response.error, response.incomplete_details, response.background) == (None, None, False)
    assert (response.instructions, response.metadata) == ("Be brief.", {"for": "a test"})
    assert (response.temperature, response.max_output_tokens, response.tools) == (0, 30, [])
    assert response.completed_at >= response.created_at > 1_700_000_000
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 30


def test_a_stream_is_the_whole_response_in_the_protocol_s_order(server: RunningServer) -> None:
    whole = respond(server, PARIS, max_output_tokens=30)
    events = streamed(server, PARIS, max_output_tokens=30)
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert named(events[-1].response) == named(whole)
    assert (events[0].response.status, events[0].response.output, events[0].response.usage) == ("in_progress", [], None)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 4 and "".join(deltas) == whole.output_text
    assert {event.response.id for event in (*events[:2], events[-1])} == {events[0].response.id}


def test_the_client_s_own_stream_gathers_the_response(server: RunningServer) -> None:
    with server.openai.responses.stream(model=STARTER, input=PARIS, max_output_tokens=30, temperature=0) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text != ""


def test_an_answer_that_was_cut_is_incomplete_whole_and_streamed(server: RunningServer) -> None:
    whole = respond(server, "Tell me about nuts.")
    assert (whole.status, whole.output[0].status) == ("incomplete", "incomplete")
    assert whole.incomplete_details.reason == "max_output_tokens"
    events = streamed(server, "Tell me about nuts.")
    assert (events[-1].type, named(events[-1].response)) == ("response.incomplete", named(whole))


def test_input_is_text_or_items_and_instructions_are_the_system_message(server: RunningServer) -> None:
    easy: list[Any] = [{"role": "user", "content": "Hi"}]
    parts: list[Any] = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    told: list[Any] = [{"role": "developer", "content": "Answer in French."}, *easy]
    text, of_easy, of_parts = (named(respond(server, given, instructions="Answer in French."))
                               for given in ("Hi", easy, parts))  # fmt: skip
    assert text == of_easy == of_parts
    assert named(respond(server, told))["output"] == text["output"]


def test_several_texts_for_the_system_are_one_message(server: RunningServer) -> None:
    items: list[Any] = [{"role": "system", "content": "In French."}, {"role": "user", "content": "Hi"}]
    several = respond(server, items, instructions="Be brief.", max_output_tokens=1)
    once = respond(server, "Hi", instructions="Be brief.\n\nIn French.", max_output_tokens=1)
    assert several.usage.input_tokens == once.usage.input_tokens


@pytest.mark.slow
def test_required_gives_one_call_whole_and_streamed(server: RunningServer) -> None:
    wish: Any = {"tools": [WEATHER, TIME], "tool_choice": "required", "max_output_tokens": 200}
    whole = respond(server, ASK, **wish)
    (call,) = whole.output
    assert (call.type, call.name, call.status, whole.status) == ("function_call", "weather", "completed", "completed")
    assert call.call_id.startswith("call_") and call.id.startswith("fc_")
    jsonschema.validate(json.loads(call.arguments), PARAMETERS)
    assert [tool.name for tool in whole.tools] == ["weather", "time"] and whole.tool_choice == "required"
    events = streamed(server, ASK, **wish)
    assert types(events)[2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert named(events[-1].response) == named(whole)
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert len(deltas) > 4 and "".join(deltas) == call.arguments


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "time"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]},
    ],
    ids=["named", "allowed"],
)
def test_a_chosen_tool_is_the_one_that_is_called(server: RunningServer, choice: Any) -> None:
    response = respond(server, ASK, tools=[WEATHER, TIME], tool_choice=choice, max_output_tokens=200)
    assert [(call.name, json.loads(call.arguments)) for call in response.output] == [("time", {})]
    assert response.tool_choice.model_dump(exclude_none=True) == choice


@pytest.mark.slow
def test_several_calls_are_items_of_their_own(server: RunningServer) -> None:
    wish: Any = {"tools": [TIME], "tool_choice": "required", "parallel_tool_calls": True, "max_output_tokens": 400}
    events = streamed(server, ASK, **wish)
    calls = events[-1].response.output
    assert {call.name for call in calls} == {"time"}
    assert len({call.call_id for call in calls}) == len({call.id for call in calls}) == len(calls) > 1
    added = [event for event in events if event.type == "response.output_item.added"]
    assert [event.output_index for event in added] == list(range(len(calls)))


def test_no_tool_is_called_where_none_may_be(server: RunningServer) -> None:
    none, bare = respond(server, ASK, tools=[WEATHER], tool_choice="none"), respond(server, ASK)
    assert (none.output_text, none.usage.input_tokens) == (bare.output_text, bare.usage.input_tokens)


def chat_tokens(server: RunningServer, messages: list[Any], **fields: Any) -> int:
    wish = {"model": name_of(server), "max_tokens": 1, **fields}
    tokens: int = server.openai.chat.completions.create(messages=messages, **wish).usage.prompt_tokens
    return tokens


@pytest.mark.slow
def test_a_call_and_its_result_go_back_in_as_a_chat_s_do(server: RunningServer) -> None:
    first = respond(server, ASK, tools=[WEATHER], tool_choice="required", max_output_tokens=200)
    (call,) = first.output
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Hail."}
    in_parts: Any = result | {"output": [{"type": "input_text", "text": "Hail."}]}
    asked: list[Any] = [{"role": "user", "content": ASK}]
    by_hand = respond(server, [*asked, *first.output, result], tools=[WEATHER], max_output_tokens=1)
    by_id = respond(server, [in_parts], previous_response_id=first.id, tools=[WEATHER], max_output_tokens=1)
    function = {"name": "weather", "arguments": call.arguments}
    messages = [
        *asked,
        {"role": "assistant", "tool_calls": [{"id": call.call_id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call.call_id, "content": "Hail."},
    ]
    tools = [{"type": "function", "function": {name: WEATHER[name] for name in ("name", "description", "parameters")}}]
    theirs = chat_tokens(server, messages, tools=tools)
    assert by_hand.usage.input_tokens == by_id.usage.input_tokens == theirs


def test_a_call_that_was_cut_is_incomplete_and_no_part_of_later_turns(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 900}}, "required": ["text"]}
    tool = {"type": "function", "name": "write", "parameters": schema}
    events = streamed(server, ASK, tools=[tool], tool_choice="required", max_output_tokens=60)
    response = events[-1].response
    assert (response.status, [item.status for item in response.output]) == ("incomplete", ["incomplete"])
    went_on = respond(server, "Hi", previous_response_id=response.id)
    by_hand: list[Any] = [{"role": "user", "content": ASK}, {"role": "user", "content": "Hi"}]
    assert went_on.usage.input_tokens == respond(server, by_hand).usage.input_tokens


class Town(BaseModel):
    name: str
    big: bool


def test_an_answer_is_parsed_as_the_client_s_own_type(server: RunningServer) -> None:
    response = server.openai.responses.parse(
        model=STARTER, input="Paris is big.", text_format=Town, max_output_tokens=100, temperature=0
    )
    assert isinstance(response.output_parsed, Town)
    assert response.text.format.type == "json_schema"  # type: ignore[union-attr]


def test_a_call_is_parsed_by_the_client_s_own_tool(server: RunningServer) -> None:
    tool = openai.pydantic_function_tool(Town, name="town")["function"]
    response = server.openai.responses.parse(
        model=STARTER,
        input="Paris is big.",
        tools=[{"type": "function", **tool}],  # type: ignore[list-item,typeddict-item]
        tool_choice="required",
        max_output_tokens=200,
    )
    (call,) = response.output
    assert call.type == "function_call" and set(call.parsed_arguments) == {"name", "big"}


def test_json_objects_and_schemas_hold(server: RunningServer) -> None:
    wish: Any = {"max_output_tokens": 200}
    schema = {"type": "json_schema", "name": "weather", "schema": PARAMETERS}
    jsonschema.validate(json.loads(respond(server, ASK, text={"format": schema}, **wish).output_text), PARAMETERS)
    free = respond(
        server, f"{ASK} Answer in short JSON.", text={"format": {"type": "json_object"}}, max_output_tokens=400
    )
    assert free.output_text.lstrip().startswith("{")


def test_log_probabilities_are_told_where_they_are_asked_for(server: RunningServer) -> None:
    wish: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    events = streamed(server, "Hi", **wish)
    (part,) = events[-1].response.output[0].content
    assert "".join(token.token for token in part.logprobs) == part.text
    assert {len(token.top_logprobs) for token in part.logprobs} == {2}
    told = [token for event in events if event.type == "response.output_text.delta" for token in event.logprobs]
    assert [token.logprob for token in told] == [token.logprob for token in part.logprobs]
    assert respond(server, "Hi").output[0].content[0].logprobs == []


# thought and images


def test_a_thought_is_an_item_before_the_answer_whole_and_streamed(thinker: RunningServer) -> None:
    whole = respond(thinker, "2 + 2?", max_output_tokens=64, extra_body=THOUGHT)
    thought, message = whole.output
    assert (thought.type, thought.summary, thought.status) == ("reasoning", [], "completed")
    assert (thought.content[0].type, thought.content[0].text) == ("reasoning_text", "Two and two.")
    assert message.content[0].text == whole.output_text == "Four."
    assert 0 < whole.usage.output_tokens_details.reasoning_tokens < whole.usage.output_tokens
    events = streamed(thinker, "2 + 2?", max_output_tokens=64, extra_body=THOUGHT)
    assert types(events)[2:8] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert types(events)[8:11] == ["output_item.added", "content_part.added", "output_text.delta"]
    assert named(events[-1].response) == named(whole)


def test_a_thought_that_was_cut_is_incomplete_and_no_part_of_later_turns(thinker: RunningServer) -> None:
    cut = respond(thinker, "2 + 2?", max_output_tokens=16, extra_body=CUT_THOUGHT)
    assert [(item.type, item.status) for item in cut.output] == [("reasoning", "incomplete")]
    went_on = respond(thinker, "Sure?", previous_response_id=cut.id, max_output_tokens=1)
    by_hand: list[Any] = [{"role": "user", "content": "2 + 2?"}, {"role": "user", "content": "Sure?"}]
    assert went_on.usage.input_tokens == respond(thinker, by_hand, max_output_tokens=1).usage.input_tokens


def test_thoughts_come_back_and_are_no_part_of_later_turns(thinker: RunningServer) -> None:
    first = respond(thinker, "2 + 2?", max_output_tokens=64, extra_body=THOUGHT)
    asked: list[Any] = [{"role": "user", "content": "2 + 2?"}]
    sizes = [
        respond(
            thinker, [*asked, *answer, {"role": "user", "content": "Sure?"}], max_output_tokens=1
        ).usage.input_tokens
        for answer in (first.output, [{"role": "assistant", "content": "Four."}])
    ]
    assert sizes[0] == sizes[1]


def test_effort_none_means_no_thought(thinker: RunningServer, server: RunningServer) -> None:
    thinking, answering = (
        respond(thinker, "2 + 2?", max_output_tokens=1, reasoning=wish).usage.input_tokens
        for wish in ({"effort": "high", "summary": "auto"}, {"effort": "none"})
    )
    assert answering > thinking  # the template closes the thought in the prompt
    assert respond(server, reasoning={"effort": "high"}).output_text  # which does not think, and passes over it


def address() -> str:
    file = BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_an_image_is_seen_and_kept(eyes: RunningServer) -> None:
    text = {"type": "input_text", "text": "What is it?"}
    image = {"type": "input_image", "detail": "auto", "image_url": address()}
    wish: Any = {"extra_body": {"grammar": 'root ::= "x"'}}
    blind, seen = (respond(eyes, [{"role": "user", "content": parts}], **wish) for parts in ([text], [text, image]))
    assert seen.usage.input_tokens == blind.usage.input_tokens + 4  # 2 x 2 patches
    after = [respond(eyes, "?", previous_response_id=each.id).usage.input_tokens for each in (blind, seen)]
    assert after[1] == after[0] + 4


# kept responses


def test_a_conversation_goes_on_by_id_as_it_does_by_hand(server: RunningServer) -> None:
    first = respond(server, PARIS, instructions="Be brief.", max_output_tokens=30)
    second = respond(server, "And of Spain?", previous_response_id=first.id)
    third = respond(server, "Sure?", previous_response_id=second.id)
    by_hand: list[Any] = [
        {"role": "user", "content": PARIS},
        *first.output,
        {"role": "user", "content": "And of Spain?"},
        *second.output,
        {"role": "user", "content": "Sure?"},
    ]
    told = respond(server, by_hand)
    assert third.usage.input_tokens == told.usage.input_tokens  # instructions are not carried over
    assert (third.output_text, third.previous_response_id) == (told.output_text, second.id)


def test_a_response_is_read_again_listed_and_deleted(server: RunningServer) -> None:
    responses = server.openai.responses
    first = respond(server, PARIS, max_output_tokens=30)
    streamed_one = streamed(server, "Sure?", previous_response_id=first.id)[-1].response
    for each in (first, streamed_one):
        assert responses.retrieve(each.id).to_json() == each.to_json()
    items = list(responses.input_items.list(streamed_one.id, order="asc"))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert items[0].content[0].text == PARIS and items[1].id == first.output[0].id
    assert [item.id for item in responses.input_items.list(streamed_one.id)] == [item.id for item in items][::-1]
    responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(first.id)
    assert respond(server, "Still?", previous_response_id=streamed_one.id).output_text


def test_items_come_in_pages(server: RunningServer) -> None:
    asked: list[Any] = [{"role": "user", "content": f"Word {i}"} for i in range(5)]
    response = respond(server, asked)
    page = server.openai.responses.input_items.list(response.id, order="asc", limit=2)
    assert (len(page.data), page.has_more, page.last_id) == (2, True, page.data[-1].id)
    assert [item.content[0].text for item in page] == [f"Word {i}" for i in range(5)]
    with pytest.raises(openai.BadRequestError, match="limit is not as it should be"):
        server.openai.responses.input_items.list(response.id, limit=1000)
    with pytest.raises(openai.BadRequestError, match="There is no item 'msg_x'"):
        server.openai.responses.input_items.list(response.id, after="msg_x")


def test_what_is_not_to_be_stored_is_not(server: RunningServer) -> None:
    kept, passed = (respond(server, store=store) for store in (True, False))
    assert (kept.model_extra["store"], passed.model_extra["store"]) == (True, False)
    with pytest.raises(openai.NotFoundError):
        server.openai.responses.retrieve(passed.id)


def test_ids_that_are_none_are_not_found(server: RunningServer) -> None:
    responses = server.openai.responses
    for ask in (responses.retrieve, responses.delete, responses.cancel, responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match="There is no response 'resp_x'"):
            ask("resp_x")
    with pytest.raises(openai.BadRequestError) as refused:
        respond(server, previous_response_id="resp_x")
    assert refused.value.code == "previous_response_not_found"


def test_only_a_response_in_the_background_could_be_cancelled(server: RunningServer) -> None:
    response = respond(server)
    with pytest.raises(openai.BadRequestError, match="in the background can be cancelled"):
        server.openai.responses.cancel(response.id)
    with pytest.raises(openai.BadRequestError, match="background is not as it should be"):
        respond(server, background=True)


def test_a_response_under_way_is_not_there_yet(server: RunningServer) -> None:
    with respond(server, stream=True, max_output_tokens=3000, extra_body={"grammar": FOR_EVER}) as stream:
        created = next(stream).response.id
        for ask in (server.openai.responses.retrieve, server.openai.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                ask(created)
    assert respond(server).output_text


@pytest.fixture(scope="module")
def guarded(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str, str]]:
    """A server that keeps responses on disk, and two keys for it."""
    home = tmp_path_factory.mktemp("responses")
    install(home, starter)
    keys = Keys(f"sqlite:///{home / 'keys.db'}")
    first, second = (keys.add(Wanted(name))[1] for name in ("first", "second"))
    keys.close()
    with serving(home, "-m", STARTER, "--context", "1024", "--require-key", "--keep-responses") as running:
        yield running, first, second


def with_key(server: RunningServer, key: str) -> Any:
    return server.openai.with_options(api_key=key).responses


def test_no_key_finds_what_another_made(guarded: tuple[RunningServer, str, str]) -> None:
    server, first, second = guarded
    ours, theirs = with_key(server, first), with_key(server, second)
    wish: Any = {"model": STARTER, "input": "Say hi.", "max_output_tokens": 4}
    made = ours.create(**wish)
    for ask in (theirs.retrieve, theirs.delete, theirs.cancel, theirs.input_items.list):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(made.id)
        assert "There is no response" in str(refused.value)
    with pytest.raises(openai.BadRequestError, match="There is no response"):
        theirs.create(**wish, previous_response_id=made.id)
    assert ours.retrieve(made.id).output_text == made.output_text
    assert ours.create(**wish, previous_response_id=made.id).output_text


@pytest.mark.slow
def test_an_answer_that_cannot_be_kept_is_one_all_the_same(stocked: Path) -> None:
    (stocked / "responses.db").mkdir()
    with serving(stocked, "--context", "1024", "--keep-responses") as running:
        for response in (respond(running), streamed(running)[-1].response):
            assert response.output_text and response.model_extra["store"] is False
            with pytest.raises(openai.InternalServerError) as refused:
                running.openai.responses.retrieve(response.id)
            assert str(stocked) not in str(refused.value)


@pytest.mark.slow
def test_on_disk_responses_outlive_the_server(stocked: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        with serving(stocked, "--context", "1024", "--keep-responses") as running:
            before: Any = {"previous_response_id": ids[-1]} if ids else {}
            ids.append(respond(running, **before).id)
    assert (stocked / "responses.db").stat().st_mode & 0o077 == 0
    with serving(stocked, "--context", "1024") as running, pytest.raises(openai.NotFoundError):
        running.openai.responses.retrieve(ids[-1])


# what cannot be


def test_a_conversation_too_long_is_refused_or_begun_later(server: RunningServer) -> None:
    system: Any = {"role": "system", "content": "Be brief."}
    long, short = (
        [{"role": role, "content": f"{i} {text}"} for i in range(2) for role in ("user", "assistant")]
        for text in ("word " * 4200, "word")
    )
    last: Any = {"role": "user", "content": "Say hi."}
    with pytest.raises(openai.BadRequestError) as refused:
        respond(server, [system, *long, *short, last])
    assert refused.value.code == "context_length_exceeded"
    begun_later = respond(server, [system, *long, *short, last], truncation="auto")
    assert begun_later.usage.input_tokens == respond(server, [system, *short, last]).usage.input_tokens
    assert begun_later.truncation == "auto"
    with pytest.raises(openai.BadRequestError):  # its last turn alone is too long
        respond(server, [system, *short, *long[:1]], truncation="auto")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"input": []}, "No item says anything"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "this server knows items of the types message"),
        ({"input": [{"type": "message", "content": "x"}]}, "role is not as it should be"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input_text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y"}]}]}, "fetched"),
        ({"tools": [{"type": "web_search"}]}, "runs no tools of its own"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools.0.name is not as it should be"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "rain"}}, "none of the tools"),
        ({"tools": [WEATHER], "extra_body": {"grammar": 'root ::= "x"'}}, "grammar and call tools"),
        ({"tool_choice": "required"}, "there is none"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "schema is missing"),
        ({"include": ["file_search_call.results"]}, "include.0 is not as it should be"),
        ({"max_output_tokens": 0}, "max_output_tokens is not as it should be"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x is not as it should be"),
        ({"conversation": "conv_1"}, "conversation is not as it should be. this server does not do it yet"),
        ({"prompt": {"id": "pmpt_1"}}, "does not do it yet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_refused_in_a_sentence(server: RunningServer, fields: Any, says: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        respond(server, **fields)
    assert says in str(refused.value)


def test_what_agents_send_along_is_passed_over(server: RunningServer) -> None:
    more: Any = {"include": [], "tools": [], "service_tier": "auto", "user": "x", "prompt_cache_key": "x"}
    assert respond(server, text={"verbosity": "low"}, stream_options={"include_obfuscation": False}, **more).output_text
    assert respond(server, include=["reasoning.encrypted_content"], store=False).output_text


def test_an_unknown_model_is_a_404(server: RunningServer) -> None:
    with pytest.raises(openai.NotFoundError, match="smollm3"):
        respond(server, model="smollm3")


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KINDS = ("message", "function_call", "function_call_output", "reasoning", "input_text", "input_image", "output_text")
NAMES = ("role", "content", "text", "output", "call_id", "name", "arguments", "summary", "id", "status", "image_url")
ITEM: Any = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={name: JSON | st.sampled_from(("user", "assistant", "x", *KINDS)) for name in NAMES},
)
FIELDS = sorted({*ResponsesBody.model_fields} - {"model", "input", "stream"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ITEM, max_size=3), st.dictionaries(st.sampled_from(FIELDS), JSON | ITEM, max_size=2))
def test_whatever_stands_in_a_request_is_answered_or_refused(
    server: RunningServer, items: Any, fields: dict[str, Any]
) -> None:
    body = {"model": STARTER, "input": [*items, {"role": "user", "content": "Hi"}], **fields, "max_output_tokens": 1}
    answer = server.http.post("/v1/responses", json=body)
    assert answer.status_code in (200, 400, 404), answer.text
    assert answer.status_code == 200 or answer.json()["error"]["message"]


def test_a_worker_killed_in_the_middle_of_a_stream_makes_the_response_fail(narrow: RunningServer) -> None:
    body = {"model": STARTER, "input": "Hi", "stream": True, "max_output_tokens": 7000, "grammar": FOR_EVER}
    killed = narrow.worker() if narrow.chat(max_tokens=2).choices else None
    with narrow.http.stream("POST", "/v1/responses", json=body) as answer:
        events = documents(answer.iter_lines())
        while next(events)["type"] != "response.output_text.delta":
            pass
        assert killed
        killed.kill()
        *_, last = events
    response = last["response"]
    assert (last["type"], response["status"], response["error"]["code"]) == (
        "response.failed",
        "failed",
        "server_error",
    )
    assert [item["status"] for item in response["output"]] == ["incomplete"]
    assert narrow.http.get(f"/v1/responses/{response['id']}").status_code == 404
    assert respond(narrow).output_text
