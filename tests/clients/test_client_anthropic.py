"""anthropic."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from asked import CAPITAL, HELLO, PARAMETERS, WEATHER, Weather

TOOL: Any = {"name": "weather", "description": "The weather of a town.", "input_schema": PARAMETERS}
ASK: Any = [{"role": "user", "content": WEATHER}]


@pytest.fixture
def client(url: str) -> Anthropic:
    return Anthropic(base_url=url, api_key="none", max_retries=0)


def test_a_plain_answer(client: Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, max_tokens=30, messages=HELLO, system="You know the world.")
    (block,) = answer.content
    assert block.type == "text" and block.text
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > 10
    counted = client.messages.count_tokens(model=model, messages=HELLO).input_tokens
    assert 5 < counted < answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) + 40


def test_a_stream(client: Anthropic, model: str) -> None:
    with client.messages.stream(model=model, max_tokens=30, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        whole = stream.get_final_message()
    assert len(pieces) > 3 and "".join(pieces) == stream.get_final_text()
    assert whole.stop_reason in ("end_turn", "max_tokens") and whole.usage.output_tokens > 3


def test_a_tool_that_must_be_called_and_its_result(client: Anthropic, model: str) -> None:
    answer = client.messages.create(
        model=model, max_tokens=100, messages=ASK, tools=[TOOL], tool_choice={"type": "any"}
    )
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and Weather.model_validate(call.input)
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "Hail, 3 degrees."}
    then: Any = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(model=model, max_tokens=30, messages=then, tools=[TOOL]).content


def test_a_streamed_call(client: Anthropic, model: str) -> None:
    with client.messages.stream(
        model=model, max_tokens=100, messages=ASK, tools=[TOOL], tool_choice={"type": "tool", "name": "weather"}
    ) as stream:
        kinds = {event.type for event in stream}
        (call,) = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert "input_json" in kinds and Weather.model_validate(call.input)


def test_a_schema(client: Anthropic, model: str) -> None:
    answer = client.messages.parse(model=model, max_tokens=100, messages=ASK, output_format=Weather)
    assert isinstance(answer.parsed_output, Weather)


def test_models_and_an_unknown_one(client: Anthropic, model: str) -> None:
    assert client.models.retrieve(model).id in {each.id for each in client.models.list()}
    with pytest.raises(anthropic.NotFoundError, match="smollm2"):
        client.messages.create(model="smollm2:136m", max_tokens=5, messages=[{"role": "user", "content": CAPITAL}])
