"""Anthropic's routes, by requests as their Python client (2.13) writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from filbert.server.bodies_anthropic import MessagesBody
from running_server import FOR_EVER, STARTER, RunningServer, documents

HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "Anthropic/Python 2.13.0",
    "x-stainless-lang": "python",
    "x-stainless-retry-count": "0",
    "authorization": "Bearer none",
    "anthropic-version": "2026-10-21",
}
SCHEMA = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["town", "unit"],
}
WEATHER = {"name": "weather", "description": "The weather of a town.", "input_schema": SCHEMA}
TIME = {"name": "time", "description": "The time now.", "input_schema": {"type": "object", "properties": {}}}
ASK = "How is the weather in Ulm? Use C."
PARIS = "What is the capital of France? Answer in one sentence."
THOUGHT = {"grammar": 'root ::= "Two and two.</think>Four."', "thinking": {"type": "enabled", "budget_tokens": 1024}}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def asked(server: RunningServer, *messages: Any, route: str = "/v1/messages", **fields: Any) -> httpx.Response:
    turns = [user(message) if isinstance(message, str) else message for message in messages or ("Say hi.",)]
    body = {"max_tokens": 8, "messages": turns, "model": name_of(server), "temperature": 0, **fields}
    return server.http.post(route, json=body, headers=HEADERS)


def answered(server: RunningServer, *messages: Any, **fields: Any) -> dict[str, Any]:
    answer = asked(server, *messages, **fields)
    assert answer.status_code == 200, answer.text
    message: dict[str, Any] = answer.json()
    return message


def streamed(server: RunningServer, *messages: Any, **fields: Any) -> list[dict[str, Any]]:
    answer = asked(server, *messages, stream=True, **fields)
    assert answer.headers["content-type"] == "text/event-stream"
    lines = answer.text.splitlines()
    events = list(documents(iter(lines)))
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")] == [
        event["type"] for event in events
    ]
    return events


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message, as the client gathers it. Blocks come one after the other, and each is closed."""
    message: dict[str, Any] = {}
    calls: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                take(message["content"][-1], event["delta"], calls, event["index"])
            case "content_block_stop" if event["index"] in calls:
                message["content"][-1]["input"] = json.loads(calls[event["index"]])
            case "message_delta":
                message |= event["delta"] | {"usage": event["usage"]}
    starts, stops = ([e["index"] for e in events if e["type"] == f"content_block_{what}"] for what in ("start", "stop"))
    assert starts == stops
    return message


def take(block: dict[str, Any], delta: dict[str, Any], calls: dict[int, str], index: int) -> None:
    if delta["type"] == "input_json_delta":
        calls[index] = calls.get(index, "") + delta["partial_json"]
    else:
        field = delta["type"].removesuffix("_delta")
        block[field] += delta[field]


def named(message: dict[str, Any]) -> dict[str, Any]:
    """Without what each answer has for itself: names, and how much of the prompt was remembered."""
    blocks = [{name: value for name, value in block.items() if name != "id"} for block in message["content"]]
    tokens = {name: n for name, n in message["usage"].items() if name.startswith("output")}
    return message | {"id": "", "content": blocks, "usage": tokens}


def name_of(server: RunningServer) -> str:
    name: str = server.http.get("/v1/models").json()["data"][0]["id"]
    return name


def prompt_tokens(message: dict[str, Any]) -> int:
    usage: dict[str, int] = message["usage"]
    return usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]


def test_a_message_is_answered_with_its_usage(server: RunningServer) -> None:
    message = answered(server, PARIS, max_tokens=30)
    (block,) = message["content"]
    assert block["type"] == "text" and "Paris" in block["text"]
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", STARTER)
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert prompt_tokens(message) > 30 and message["usage"]["output_tokens"] > 5


def test_a_stream_becomes_the_whole_message(server: RunningServer) -> None:
    whole = answered(server, "Tell me about nuts.")
    events = streamed(server, "Tell me about nuts.")
    assert named(put_together(events)) == named(whole)
    assert whole["stop_reason"] == "max_tokens"
    types = [event["type"] for event in events]
    assert (types[0], types[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert types.count("content_block_delta") > 4


def test_a_stream_begins_with_the_prompt_s_tokens_and_pings_until_it_is_read(server: RunningServer) -> None:
    first, *rest = streamed(server, " ".join(f"word{i}" for i in range(60)), max_tokens=2)
    assert prompt_tokens(first["message"]) > 120
    assert [event["type"] for event in rest[:2]] == ["ping", "ping"]
    assert prompt_tokens(rest[-2]) == prompt_tokens(first["message"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_ends_the_answer_and_is_named(server: RunningServer, stream: bool) -> None:
    wish = {"stop_sequences": ["never", "Paris"], "max_tokens": 30}
    message = put_together(streamed(server, PARIS, **wish)) if stream else answered(server, PARIS, **wish)
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "Paris")
    assert message["content"] and "Paris" not in message["content"][0]["text"]
    assert "prompt" not in json.dumps(message)


def test_stop_sequences_that_do_not_come_are_not_named(server: RunningServer) -> None:
    message = answered(server, PARIS, max_tokens=30, stop_sequences=["never"])
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)


def test_the_system_is_text_or_blocks(server: RunningServer) -> None:
    blocks = [{"type": "text", "text": "Answer in French.", "cache_control": {"type": "ephemeral"}}]
    text, of_blocks = (answered(server, "Hi", system=system) for system in ("Answer in French.", blocks))
    assert named(text) == named(of_blocks)
    assert prompt_tokens(text) == prompt_tokens(of_blocks)


def test_content_is_text_or_blocks_and_turns_of_one_role_are_one(server: RunningServer) -> None:
    text = {"type": "text", "text": "Hi"}
    once, in_blocks, in_turns = (
        prompt_tokens(answered(server, *turns, max_tokens=1))
        for turns in (["Hi\n\nHi"], [user(text, text)], ["Hi", user(text)])
    )
    assert once == in_blocks == in_turns


def test_an_answer_goes_on_from_the_assistant_s_last_words(server: RunningServer) -> None:
    message = answered(server, PARIS, {"role": "assistant", "content": "The capital of France is"})
    assert message["content"][0]["text"].startswith(" Paris")


def test_a_document_of_text_is_read(server: RunningServer) -> None:
    question = {"type": "text", "text": "What is the code?"}
    as_text = answered(server, "Codes\n\nThe code is 7351.\n\nWhat is the code?")
    sources = [
        {"type": "text", "media_type": "text/plain", "data": "The code is 7351."},
        {"type": "content", "content": [{"type": "text", "text": "The code is 7351."}]},
    ]
    for source in sources:
        document = {"type": "document", "title": "Codes", "source": source, "citations": {"enabled": False}}
        message = answered(server, user(document, question))
        assert (named(message), prompt_tokens(message)) == (named(as_text), prompt_tokens(as_text))


@pytest.mark.slow
def test_any_tool_is_one_call_whole_and_streamed(server: RunningServer) -> None:
    wish = {"tools": [WEATHER, TIME], "tool_choice": {"type": "any"}, "max_tokens": 200}
    whole = answered(server, ASK, **wish)
    (block,) = whole["content"]
    assert (block["type"], block["name"], whole["stop_reason"]) == ("tool_use", "weather", "tool_use")
    assert block["id"].startswith("toolu_")
    jsonschema.validate(block["input"], SCHEMA)
    events = streamed(server, ASK, **wish)
    assert named(put_together(events)) == named(whole)
    assert sum(event.get("delta", {}).get("type") == "input_json_delta" for event in events) > 4


def test_a_named_tool_is_the_one_that_is_called(server: RunningServer) -> None:
    message = answered(server, ASK, tools=[WEATHER, TIME], tool_choice={"type": "tool", "name": "time"}, max_tokens=200)
    assert [(block["name"], block["input"]) for block in message["content"]] == [("time", {})]


def test_no_tool_is_called_where_none_may_be(server: RunningServer) -> None:
    none = answered(server, ASK, tools=[WEATHER], tool_choice={"type": "none"})
    assert prompt_tokens(none) == prompt_tokens(answered(server, ASK))
    assert none["content"][0]["type"] == "text"


@pytest.mark.slow
def test_several_calls_are_blocks_of_their_own(server: RunningServer) -> None:
    choice = {"type": "any", "disable_parallel_tool_use": False}
    events = streamed(server, ASK, tools=[TIME], tool_choice=choice, max_tokens=400)
    message = put_together(events)
    assert message["stop_reason"] == "tool_use"
    assert {(block["name"], *block["input"]) for block in message["content"]} == {("time",)}
    assert len({block["id"] for block in message["content"]}) == len(message["content"]) > 1


@pytest.mark.slow
def test_a_call_and_its_result_go_back_in_as_openai_s_do(server: RunningServer) -> None:
    call = answered(server, ASK, tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=200)
    (block,) = call["content"]
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": [{"type": "text", "text": "Hail."}]}
    turns = [user(ASK), {"role": "assistant", "content": call["content"]}]
    function = {"name": "weather", "arguments": json.dumps(block["input"])}
    tools: Any = [{"type": "function", "function": {**WEATHER, "parameters": SCHEMA}}]
    for failed, told in ((False, "Hail."), (True, "It failed: Hail.")):
        in_blocks = user(result | {"is_error": failed}, {"type": "text", "text": "Say it."})
        messages = [
            user(ASK),
            {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "x", "content": told},
            user("Say it."),
        ]
        theirs = server.post(messages=messages, tools=tools, max_tokens=1).json()["usage"]["prompt_tokens"]
        assert prompt_tokens(answered(server, *turns, in_blocks, tools=[WEATHER], max_tokens=1)) == theirs


def same_counted(server: RunningServer, **wish: Any) -> int:
    """The tokens of a prompt, which are those that an answer uses."""
    wish = {"max_tokens": 1, **wish}
    counted: dict[str, int] = asked(server, ASK, route="/v1/messages/count_tokens", **wish).json()
    assert counted == {"input_tokens": prompt_tokens(answered(server, ASK, **wish))}, wish
    return counted["input_tokens"]


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"system": "Be brief."},
        {"tools": [WEATHER], "tool_choice": {"type": "auto"}},
        {"tools": [WEATHER, TIME], "tool_choice": {"type": "tool", "name": "time"}, "max_tokens": 40},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
    ids=["bare", "system", "tools", "one tool", "schema"],
)
def test_tokens_are_counted_as_they_are_used(server: RunningServer, wish: dict[str, Any]) -> None:
    assert same_counted(server, **wish) == same_counted(server, **wish, thinking={"type": "adaptive"})


def test_what_the_prompt_says_of_a_thought_is_counted(thinker: RunningServer) -> None:
    wishes = [{"thinking": {"type": "disabled"}}, {}, {"thinking": {"type": "enabled", "budget_tokens": 64}}]
    disabled, left_out, enabled = (same_counted(thinker, **wish) for wish in wishes)
    effort = same_counted(thinker, thinking={"type": "adaptive"}, output_config={"effort": "low"})
    assert disabled == left_out > enabled == effort  # the template closes the thought in the prompt


def test_an_answer_holds_to_a_schema(server: RunningServer) -> None:
    message = answered(server, ASK, max_tokens=200, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    jsonschema.validate(json.loads(message["content"][0]["text"]), SCHEMA)


def test_models_are_shown_in_the_shape_of_who_asks(server: RunningServer) -> None:
    page = server.http.get("/v1/models", headers=HEADERS).json()
    shown = server.http.get(f"/v1/models/{STARTER}", headers=HEADERS).json()
    assert page == {"data": [shown], "has_more": False, "first_id": STARTER, "last_id": STARTER}
    assert (shown["type"], shown["id"], shown["created_at"]) == ("model", STARTER, "2026-11-24T08:00:00+00:00")
    unknown = server.http.get("/v1/models/smollm9", headers=HEADERS)
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    assert server.http.get("/v1/models").json()["object"] == "list"


@pytest.fixture
def thought(thinker: RunningServer) -> dict[str, Any]:
    return answered(thinker, "2 + 2?", max_tokens=64, **THOUGHT)


def test_a_thought_is_a_block_before_the_answer(thinker: RunningServer, thought: dict[str, Any]) -> None:
    thinking, text = thought["content"]
    assert (thinking["type"], thinking["thinking"], text["text"]) == ("thinking", "Two and two.", "Four.")
    assert thinking["signature"]
    tokens = thought["usage"]["output_tokens_details"]["thinking_tokens"]
    assert 0 < tokens < thought["usage"]["output_tokens"]
    events = streamed(thinker, "2 + 2?", max_tokens=64, **THOUGHT)
    assert named(put_together(events)) == named(thought)


def test_a_thought_that_is_to_be_omitted_leaves_an_empty_block(thinker: RunningServer) -> None:
    wish = THOUGHT | {"max_tokens": 64, "thinking": {"type": "adaptive", "display": "omitted"}}
    whole = answered(thinker, "2 + 2?", **wish)
    assert [block.get("thinking") for block in whole["content"]] == ["", None]
    assert named(put_together(streamed(thinker, "2 + 2?", **wish))) == named(whole)


def test_a_thought_has_no_more_tokens_than_its_budget(thinker: RunningServer) -> None:
    spent = []
    for budget in (4, 12):
        message = answered(thinker, "2 + 2?", max_tokens=40, thinking={"type": "enabled", "budget_tokens": budget})
        spent.append(message["usage"]["output_tokens_details"]["thinking_tokens"])
    assert spent[0] < spent[1] <= 20


def test_no_thought_where_none_is_wished_for(thinker: RunningServer) -> None:
    left_out, disabled, enabled = (
        prompt_tokens(answered(thinker, "2 + 2?", max_tokens=1, **wish))
        for wish in (
            {},
            {"thinking": {"type": "disabled"}},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        )
    )
    assert left_out == disabled > enabled  # the template closes the thought in the prompt


def test_a_model_that_does_not_think_passes_over_the_wish(server: RunningServer) -> None:
    assert answered(server, thinking={"type": "enabled", "budget_tokens": 1024})["content"][0]["type"] == "text"


def test_thoughts_come_back_and_are_no_part_of_later_turns(thinker: RunningServer, thought: dict[str, Any]) -> None:
    redacted = {"type": "redacted_thinking", "data": "AAAA"}
    answers = ([redacted, *thought["content"]], "Four.")
    sizes = [
        prompt_tokens(answered(thinker, "2 + 2?", {"role": "assistant", "content": content}, "Sure?", max_tokens=1))
        for content in answers
    ]
    assert sizes[0] == sizes[1]


def picture(color: str = "red") -> dict[str, Any]:
    file = BytesIO()
    Image.new("RGB", (40, 30), color).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def test_an_image_is_seen_also_in_a_result(eyes: RunningServer) -> None:
    text = {"type": "text", "text": "What is it?"}
    blind, seen = (prompt_tokens(answered(eyes, user(*blocks), max_tokens=1)) for blocks in ([text], [text, picture()]))
    assert seen == blind + 4  # 2 x 2 patches
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    turns = ["Look.", {"role": "assistant", "content": [call]}]
    results = ([{"type": "text", "text": "Here."}], [{"type": "text", "text": "Here."}, picture()])
    blind, seen = (
        prompt_tokens(
            answered(
                eyes,
                *turns,
                user({"type": "tool_result", "tool_use_id": "toolu_1", "content": result}, text),
                max_tokens=1,
            )
        )
        for result in results
    )
    assert seen == blind + 4


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"max_tokens": None}, "max_tokens is not as it should be. Field required"),
        ({"max_tokens": 0}, "max_tokens is not as it should be"),
        ({"messages": []}, "messages is not as it should be"),
        ({"messages": [{"role": "assistant", "content": []}]}, "No message says anything"),
        ({"messages": [user({"type": "image", "source": {"type": "url", "url": "http://x/y"}})]}, "nothing is fetched"),
        ({"messages": [user({"type": "document", "source": {"type": "file", "file_id": "x"}})]}, "nothing is fetched"),
        ({"messages": [user({"type": "document", "source": {"type": "base64", "data": ""}})]}, "as text only"),
        ({"messages": [user({"type": "tool_use", "id": "x", "name": "x", "input": {}})]}, "messages.0.content.0"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "runs no tools of its own"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "rain"}}, "none of the tools"),
        ({"tool_choice": {"type": "any"}}, "there is none"),
        ({"messages": [user("word " * 9000)]}, "the context holds 4096"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_a_400_in_anthropic_s_shape(server: RunningServer, fields: Any, says: str) -> None:
    refused = asked(server, **fields)
    said = refused.json()
    assert (refused.status_code, said["type"], said["error"]["type"]) == (400, "error", "invalid_request_error")
    assert says in said["error"]["message"]
    assert said.keys() == {"type", "error"} and said["error"].keys() == {"type", "message"}


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TYPES = ("text", "image", "document", "thinking", "tool_use", "tool_result", "base64", "enabled", "any", "tool")
NAMES = ("type", "text", "source", "content", "name", "id", "input", "data", "tool_use_id", "schema", "format")
BLOCK: Any = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)}, optional={name: JSON | st.sampled_from(TYPES) for name in NAMES[1:]}
)
FIELDS = sorted({*MessagesBody.model_fields} - {"model", "max_tokens", "messages", "stream"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(BLOCK, max_size=3), st.dictionaries(st.sampled_from(FIELDS), JSON | BLOCK, max_size=2))
def test_whatever_stands_in_a_request_is_answered_or_refused(
    server: RunningServer, blocks: Any, fields: dict[str, Any]
) -> None:
    answer = asked(server, {"role": "user", "content": blocks}, **fields | {"max_tokens": 1})
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 200 or answer.json()["type"] == "error"


def test_errors_of_the_door_and_of_names_have_anthropic_s_shape(server: RunningServer) -> None:
    unknown = asked(server, model="smollm3")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    broken = server.http.post("/v1/messages", content=b"{")
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    elsewhere = server.http.post("/v1/messages", json={}, headers={"host": "evil.example"})
    assert (elsewhere.status_code, elsewhere.json()["error"]["type"]) == (403, "permission_error")
    large = server.http.post("/v1/messages", content=b"x" * 17_000_000)
    assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
    nowhere = server.http.get("/v1/messages/nowhere")
    assert (nowhere.status_code, nowhere.json()["error"]["type"]) == (404, "not_found_error")


def test_errors_of_ollama_s_routes_are_one_sentence(server: RunningServer) -> None:
    nowhere = server.http.get("/api/nowhere")
    assert nowhere.status_code == 404 and nowhere.json().keys() == {"error"}
    assert nowhere.json()["error"].startswith("GET /api/nowhere: Not Found.")


def test_a_worker_killed_in_the_middle_of_a_stream_ends_it_with_an_error(narrow: RunningServer) -> None:
    body = {"model": STARTER, "messages": [user("Hi")], "stream": True, "max_tokens": 7000, "grammar": FOR_EVER}
    killed = narrow.worker() if narrow.chat(max_tokens=2).choices else None
    with narrow.http.stream("POST", "/v1/messages", json=body, headers=HEADERS) as answer:
        events: Iterator[dict[str, Any]] = documents(answer.iter_lines())
        while next(events)["type"] != "content_block_delta":
            pass
        assert killed
        killed.kill()
        *_, last = events
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert answered(narrow, max_tokens=2)["content"]
