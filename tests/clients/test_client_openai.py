"""openai, of Python."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from asked import CAPITAL, EMBEDDER, HELLO, STARTER, TEXTS, TOOL, TOOLS_MODEL, WEATHER, Weather, alike
from openai import OpenAI

ASK: Any = [{"role": "user", "content": WEATHER}]


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_a_plain_answer(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, max_completion_tokens=30, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage and answer.usage.prompt_tokens > 10 and 0 < answer.usage.completion_tokens <= 30


def test_a_stream(client: OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=30, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "Paris" in "".join(pieces) and len([piece for piece in pieces if piece]) > 3
    assert chunks[-1].usage and not chunks[-1].choices


def test_a_tool_that_must_be_called(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(
        model=model,
        messages=ASK,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        max_tokens=100,
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_streamed_call_and_its_result(client: OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model, messages=ASK, tools=[TOOL], tool_choice="required", max_tokens=100
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    (call,) = message.tool_calls or []
    Weather.model_validate_json(call.function.arguments)
    heard: Any = {"role": "tool", "tool_call_id": call.id, "content": "Hail, 3 degrees."}
    told: Any = {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"})]}
    answer = client.chat.completions.create(model=model, messages=[*ASK, told, heard], tools=[TOOL], max_tokens=30)
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


def test_a_schema(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=ASK, response_format=Weather, max_tokens=100)
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_a_streamed_schema(client: OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=ASK, response_format=Weather, max_tokens=100) as stream:
        assert "content.delta" in {event.type for event in stream}
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Weather)


def test_responses(client: OpenAI, model: str) -> None:
    first = client.responses.create(model=model, input=CAPITAL, max_output_tokens=30, temperature=0)
    assert "Paris" in first.output_text
    with client.responses.stream(
        model=model, input=WEATHER, previous_response_id=first.id, text_format=Weather, max_output_tokens=100
    ) as stream:
        assert "response.output_text.delta" in {event.type for event in stream}
        assert isinstance(stream.get_final_response().output_parsed, Weather)


def test_a_tool_through_responses(client: OpenAI, model: str) -> None:
    answer = client.responses.parse(
        model=model,
        input=WEATHER,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        max_output_tokens=100,
    )
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert isinstance(call.parsed_arguments, Weather)


def test_completions_and_models(client: OpenAI, model: str) -> None:
    text = client.completions.create(model=model, prompt="The capital of France is", max_tokens=8, temperature=0)
    assert "Paris" in text.choices[0].text
    listed = {each.id for each in client.models.list()}
    assert {TOOLS_MODEL, EMBEDDER, client.models.retrieve(STARTER).id} == listed


def test_what_stands_between_two_texts(client: OpenAI) -> None:
    wish: Any = {"prompt": "def add(a, b):\n    c = ", "suffix": "\n    return c\n", "max_tokens": 6, "temperature": 0}
    whole = client.completions.create(model=TOOLS_MODEL, **wish)
    assert "a + b" in whole.choices[0].text
    stream = client.completions.create(model=TOOLS_MODEL, stream=True, **wish)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    with pytest.raises(openai.BadRequestError, match="does not fill in"):
        client.completions.create(model=STARTER, **wish)


def test_embeddings(client: OpenAI) -> None:
    """As it asks for them by itself (base64), and as numbers."""
    for form in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=EMBEDDER, input=TEXTS, **form)  # type: ignore[arg-type]
        assert alike([each.embedding for each in answer.data])


def test_an_unknown_model_is_told_with_the_nearest(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="smollm2"):
        client.chat.completions.create(model="smollm2:136m", messages=HELLO)
