"""OpenAI's routes through OpenAI's own client."""

from __future__ import annotations

import base64
import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import make_tiny
from filbert.server.bodies import ChatBody
from running_server import FOR_EVER, STARTER, RunningServer, documents, install, serving

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}

WITH_TOOLS = (
    "{% if tools %}<|im_start|>system\n# Tools\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>"
    "<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    '{% for call in message.tool_calls or [] %}\n<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}'
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_models_are_listed_and_one_is_retrieved_by_either_of_its_names(server: RunningServer) -> None:
    (listed,) = server.openai.models.list().data
    assert (listed.id, listed.created, listed.owned_by) == (STARTER, 1795507200, "filbert")
    assert server.openai.models.retrieve(STARTER) == server.openai.models.retrieve("smollm2:135m") == listed


def test_a_chat_answers_with_its_usage(server: RunningServer) -> None:
    answer = server.chat("What is the capital of France? Answer in one sentence.", temperature=0, max_tokens=30)
    assert "Paris" in answer.choices[0].message.content
    assert answer.model == STARTER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(server: RunningServer) -> None:
    wish = {"temperature": 0, "max_tokens": 20, "seed": 3}
    whole = server.chat("Tell me about nuts.", **wish)
    chunks = list(server.chat("Tell me about nuts.", stream=True, **wish))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == whole.choices[0].finish_reason == "length"


def test_usage_ends_a_stream_only_where_it_is_asked_for(server: RunningServer) -> None:
    plain = list(server.chat(stream=True))
    counted = list(server.chat(stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in plain)
    assert counted[-1].choices == [] and counted[-1].usage.completion_tokens == 8


@pytest.mark.slow
def test_no_event_tells_how_far_the_prompt_is(server: RunningServer) -> None:
    text = " ".join(f"word{i}" for i in range(150))
    with server.streaming(messages=[{"role": "user", "content": text}], max_tokens=2) as answer:
        events = list(documents(answer.iter_lines()))
    assert events and not any("prompt_progress" in event for event in events)


@pytest.mark.slow
def test_the_same_seed_says_the_same_and_another_something_else(server: RunningServer) -> None:
    def said(seed: int) -> str:
        text: str = server.chat("Invent a name.", seed=seed, temperature=1.5, max_tokens=8).choices[0].message.content
        return text

    said(1)  # what is remembered of a prompt is not computed again, and the last digit may differ
    assert said(1) == said(1)
    assert len({said(seed) for seed in (1, 2, 3, 2**63 - 1, -1)}) > 1


def test_stop_strings_end_the_answer_and_are_not_part_of_it(server: RunningServer) -> None:
    for stop in ("4", ["4", "never"]):
        answer = server.openai.completions.create(
            model=STARTER, prompt="1, 2, 3,", stop=stop, temperature=0, max_tokens=20
        )
        assert "4" not in answer.choices[0].text
        assert answer.choices[0].finish_reason == "stop"


def test_an_empty_stop_string_stops_nothing(server: RunningServer) -> None:
    assert server.chat(stop="", max_tokens=4).usage.completion_tokens > 1


def test_a_completion_goes_on_from_a_text_as_it_stands(server: RunningServer) -> None:
    for prompt in ("1, 2, 3, 4,", ["1, 2, 3, 4,"]):
        answer = server.openai.completions.create(model=STARTER, prompt=prompt, temperature=0, max_tokens=4)
        assert "5" in answer.choices[0].text
        assert answer.object == "text_completion"
    chunks = server.openai.completions.create(
        model=STARTER, prompt="1, 2, 3, 4,", temperature=0, max_tokens=4, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


@pytest.mark.parametrize("top", [0, 3])
def test_logprobs_come_with_their_tokens_streamed_and_whole(server: RunningServer, top: int) -> None:
    wish: dict[str, Any] = {"logprobs": True, "top_logprobs": top, "temperature": 0, "max_tokens": 6}
    whole = server.chat(**wish)
    tokens = whole.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == whole.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) >= top for token in tokens)
    streamed = [
        token.token
        for chunk in server.chat(stream=True, **wish)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == [token.token for token in tokens]


def test_a_completions_logprobs_have_openais_older_shape_streamed_and_whole(server: RunningServer) -> None:
    wish: dict[str, Any] = {"model": STARTER, "prompt": "1, 2, 3,", "logprobs": 3, "temperature": 0, "max_tokens": 6}
    (choice,) = server.openai.completions.create(**wish).choices
    found = choice.logprobs
    assert found is not None and found.top_logprobs is not None
    assert "".join(found.tokens or ()) == choice.text
    assert found.text_offset == [len("".join(found.tokens[:i])) for i in range(6)]
    assert [top[token] for top, token in zip(found.top_logprobs, found.tokens, strict=True)] == found.token_logprobs
    assert all(max(top.values()) <= 0 and 3 <= len(top) <= 4 for top in found.top_logprobs)
    chunks = list(server.openai.completions.create(stream=True, **wish))
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices and chunk.choices[0].logprobs]
    streamed = {name: [item for part in parts for item in getattr(part, name)] for name in found.model_fields_set}
    assert (streamed["tokens"], streamed["text_offset"]) == (found.tokens, found.text_offset)
    assert streamed["token_logprobs"] == pytest.approx(found.token_logprobs, abs=0.05)
    assert [len(top) for top in streamed["top_logprobs"]] == [len(top) for top in found.top_logprobs]
    assert chunks[-1].choices[0].finish_reason == "length"


def test_an_answer_holds_to_a_json_schema(server: RunningServer) -> None:
    schema = {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
        "required": ["town", "people"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "town", "schema": schema, "strict": True}}
    answer = json.loads(server.chat("Name a town.", response_format=form, max_tokens=80).choices[0].message.content)
    assert isinstance(answer["town"], str) and isinstance(answer["people"], int)


def test_an_answer_is_a_json_object_where_one_is_asked_for(server: RunningServer) -> None:
    answer = server.chat("Say hi as JSON.", response_format={"type": "json_object"}, temperature=0)
    assert answer.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.slow
def test_tools_their_calls_and_results_reach_the_chat_template(home: Path, tmp_path: Path) -> None:
    """Plumbing only: a random model whose template knows tools."""
    make_tiny.write(
        tmp_path / "tools.gguf", make_tiny.dense_parts(template=WITH_TOOLS, metadata={"llama.context_length": 4096})
    )
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
    messages: list[Any] = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "How is the weather in Ulm?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Rain."},
    ]
    with serving(home, "-m", str(tmp_path / "tools.gguf")) as server:

        def tokens(**fields: Any) -> int:
            answer = server.openai.chat.completions.create(model="tools", max_tokens=4, **fields)
            assert answer.usage is not None
            return answer.usage.prompt_tokens

        assert tokens(messages=messages[:2]) < tokens(messages=messages[:2], tools=[WEATHER])
        assert tokens(messages=messages[:2]) + 50 < tokens(messages=messages)


def test_a_tool_that_is_chosen_by_name_must_be_among_the_tools(server: RunningServer) -> None:
    chosen = {"type": "function", "function": {"name": "weather"}}
    assert server.chat(tools=[WEATHER], tool_choice=chosen).choices
    with pytest.raises(openai.BadRequestError, match=r"none of the tools.*leave tool_choice out"):
        server.chat(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "time"}})


def test_embeddings_are_the_same_unit_vectors_as_floats_and_in_base64(server: RunningServer) -> None:
    texts = ["A cat.", "A dog.", "Ein Dach."]
    floats = server.http.post("/v1/embeddings", json={"model": STARTER, "input": texts}).json()
    coded = server.http.post(
        "/v1/embeddings", json={"model": STARTER, "input": texts, "encoding_format": "base64"}
    ).json()
    for as_floats, as_base64 in zip(floats["data"], coded["data"], strict=True):
        raw = base64.b64decode(as_base64["embedding"])
        assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(as_floats["embedding"], abs=1e-7)
        assert math.hypot(*as_floats["embedding"]) == pytest.approx(1, abs=1e-4)
    by_client = server.openai.embeddings.create(model=STARTER, input=texts)
    assert by_client.data[2].embedding == pytest.approx(floats["data"][2]["embedding"], abs=1e-7)
    assert by_client.usage.prompt_tokens == floats["usage"]["prompt_tokens"] > 3


def test_more_texts_than_are_embedded_at_once_keep_their_order(server: RunningServer) -> None:
    texts = [f"Number {i}." for i in range(34)]
    many = server.openai.embeddings.create(model=STARTER, input=texts)
    one = server.openai.embeddings.create(model=STARTER, input=texts[33])
    assert [item.index for item in many.data] == list(range(34))
    assert many.data[33].embedding == pytest.approx(one.data[0].embedding, abs=0.02)


def test_a_refusal_names_the_place_in_the_body_and_nothing_of_our_own(server: RunningServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "file:///a.png"}}
    for messages, param in (
        ([{"role": "user", "content": [image]}], "messages.0.content.0"),
        ([{"role": "user", "content": 3}], "messages.0.content"),
        ([{"content": "hi"}], "messages.0.role"),
    ):
        answer = server.http.post("/v1/chat/completions", json={"model": STARTER, "messages": messages})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"].startswith(param)
        assert "str" not in answer.json()["error"]["param"].split(".")


def test_an_unknown_model_is_a_404_with_the_nearest_names_and_never_another(server: RunningServer) -> None:
    """gpt4all answered an unknown name with its default model."""
    for ask in (
        lambda: server.chat(model="smollm2:135n"),
        lambda: server.openai.completions.create(model="smollm2:135n", prompt="x"),
        lambda: server.openai.embeddings.create(model="smollm2:135n", input="x"),
        lambda: server.openai.models.retrieve("smollm2:135n"),
    ):
        with pytest.raises(openai.NotFoundError, match=STARTER) as refused:
            ask()
        assert refused.value.code == "model_not_found"


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x.gguf", "No Model!", "", "file:///etc/passwd", "x\u0000y"])
def test_a_name_that_is_none_is_a_404_whatever_lies_there(server: RunningServer, name: str) -> None:
    assert server.post(model=name).status_code == 404


def test_a_prompt_over_the_context_is_a_400(server: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError, match="4096") as refused:
        server.chat("word " * 5000)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        server.openai.embeddings.create(model=STARTER, input="word " * 5000)
    assert refused.value.code == "context_length_exceeded"


def test_a_prompt_longer_than_any_context_is_a_400_too(server: RunningServer) -> None:
    huge = "word " * (3 << 20)
    for ask in (
        lambda: server.chat(huge),
        lambda: server.openai.completions.create(model=STARTER, prompt=huge),
        lambda: server.openai.embeddings.create(model=STARTER, input=huge),
    ):
        with pytest.raises(openai.BadRequestError, match="hold") as refused:
            ask()
        assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 1e30}, "max_tokens"),
        ({"seed": "x"}, "seed"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"n": 0}, "n"),
        ({"logprobs": True, "top_logprobs": 100000000}, "top_logprobs"),
        ({"logit_bias": []}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "messages.0.role"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
                ]
            },
            "messages.0.content",
        ),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"function": {"name": "x", "parameters": {"maxItems": 10**9}}}]}, "tools.0.function.parameters"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"stream": "perhaps"}, "stream"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_value_is_a_400_that_names_it(server: RunningServer, fields: dict[str, Any], param: str) -> None:
    answer = server.post(**fields)
    problem = answer.json()["error"]
    assert (answer.status_code, problem["type"]) == (400, "invalid_request_error")
    assert problem["param"].startswith(param)


def test_a_body_of_another_shape_is_told_where_the_shape_is_told(server: RunningServer) -> None:
    said = server.post(stream="perhaps").json()["error"]["message"]
    assert said.startswith("stream is not as it should be.") and said.endswith(
        "/openapi.json says what each route takes."
    )


def test_a_grammar_that_is_none_is_a_400_from_the_engine(server: RunningServer) -> None:
    for stream in (False, True):
        answer = server.post(grammar="root ::= nix", stream=stream)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_wishes_at_their_defaults_are_none(server: RunningServer) -> None:
    assert server.post("/v1/completions", prompt="x", echo=False, suffix="", logit_bias={}).status_code == 200


def test_unknown_fields_are_ignored_and_null_is_as_good_as_left_out(server: RunningServer) -> None:
    """What langchain, pydantic-ai and litellm send beside the question."""
    nulls = dict.fromkeys(
        ("temperature", "stop", "seed", "tools", "tool_choice", "response_format", "stream_options", "n")
    )
    message = {"role": "user", "content": "hi", "name": None, "tool_calls": None, "refusal": None}
    answer = server.post(
        messages=[message], user="me", store=True, metadata={"a": 1}, id_slot=99, n_discard=-1, **nulls
    )
    assert answer.status_code == 200


def test_max_completion_tokens_bounds_the_answer(server: RunningServer) -> None:
    answer = server.post(max_tokens=None, max_completion_tokens=3).json()
    assert answer["usage"]["completion_tokens"] == 3


def test_a_client_without_a_content_type_is_understood(server: RunningServer) -> None:
    body = json.dumps({"model": STARTER, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "text/plain"}):
        answer = server.http.post("/v1/chat/completions", content=body, headers=headers)
        assert answer.status_code == 200


@pytest.mark.slow
def test_clients_who_together_ask_for_more_than_the_context_are_all_answered(stocked: Path) -> None:
    """The engine ends all answers under way when its cache runs full (llama.cpp#23652)."""
    with serving(stocked, "-m", STARTER, "--context", "512") as server, ThreadPoolExecutor(8) as crowd:

        def ask(i: int) -> tuple[str, int]:
            answer = server.chat("nut " * (20 + 20 * (i % 4)), max_tokens=40, extra_body={"grammar": FOR_EVER})
            assert answer.usage.prompt_tokens > 20
            return answer.choices[0].finish_reason, answer.usage.completion_tokens

        assert list(crowd.map(ask, range(8))) == [("length", 40)] * 8


@pytest.mark.slow
def test_a_file_named_at_the_start_is_served_under_its_name_without_folder(home: Path, starter: Path) -> None:
    with serving(home, "-m", str(starter)) as server:
        (listed,) = server.openai.models.list().data
        assert listed.id == starter.stem
        answer = server.post(model=starter.stem)
        assert answer.json()["model"] == starter.stem
        assert str(starter.parent) not in answer.text + server.post(model="x").text
        assert server.post(model=str(starter)).status_code == 404


@pytest.mark.slow
def test_a_model_that_the_engine_refuses_is_told_without_naming_its_file(home: Path, starter: Path) -> None:
    install(home, starter)
    broken = make_tiny.refused(home / "refused.gguf")
    install(home, broken, "broken:1b-q8_0", "0" * 64)
    with serving(home) as running:
        answer = running.post(model="broken:1b")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_model_file")
        assert "gguf" not in answer.text and str(home) not in answer.text
        assert running.post().status_code == 200


NAMES = ("type", "function", "name", "role", "content", "schema", "json_schema", "parameters", "include_usage")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = sorted(set(ChatBody.model_fields) - {"model", "max_tokens", "max_completion_tokens"})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
def test_whatever_stands_in_a_field_is_answered_or_refused(server: RunningServer, fields: dict[str, Any]) -> None:
    answer = server.post(**{"messages": [{"role": "user", "content": "x"}], **fields}, max_tokens=1)
    assert answer.status_code in (200, 400), answer.text
    assert server.http.get("/health").status_code == 200
