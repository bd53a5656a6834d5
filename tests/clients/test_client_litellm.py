"""litellm, which speaks all three protocols."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from asked import EMBEDDER, HELLO, TEXTS, TOOL, WEATHER, Weather, alike

ASK: Any = [{"role": "user", "content": WEATHER}]


@pytest.fixture(params=["openai", "anthropic", "ollama_chat", "ollama"])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def route(protocol: str, url: str, model: str) -> dict[str, Any]:
    """What tells litellm whom to ask, and how."""
    base = f"{url}/v1" if protocol == "openai" else url
    return {"model": f"{protocol}/{model}", "api_base": base, "api_key": "none", "num_retries": 0}


def test_a_plain_answer(route: dict[str, Any]) -> None:
    answer = litellm.completion(**route, messages=HELLO, max_tokens=30, temperature=0)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 5 and answer.usage.completion_tokens > 3


def test_a_stream(route: dict[str, Any]) -> None:
    chunks = list(litellm.completion(**route, messages=HELLO, max_tokens=30, temperature=0, stream=True))
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks) and len(chunks) > 4


@pytest.mark.parametrize("protocol", ["openai", "anthropic"], indirect=True)
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_must_be_called(route: dict[str, Any], stream: bool) -> None:
    answer = litellm.completion(
        **route, messages=ASK, tools=[TOOL], tool_choice="required", max_tokens=100, stream=stream
    )
    whole: Any = litellm.stream_chunk_builder(list(answer)) if stream else answer
    (call,) = whole.choices[0].message.tool_calls
    assert call.function.name == "weather" and Weather.model_validate_json(call.function.arguments)


def test_a_schema(route: dict[str, Any]) -> None:
    answer = litellm.completion(**route, messages=ASK, response_format=Weather, max_tokens=100)
    assert Weather.model_validate_json(answer.choices[0].message.content)


@pytest.mark.parametrize("protocol", ["openai", "ollama"])
def test_embeddings(url: str, protocol: str) -> None:
    base = f"{url}/v1" if protocol == "openai" else url
    answer = litellm.embedding(model=f"{protocol}/{EMBEDDER}", api_base=base, api_key="none", input=TEXTS)
    assert alike([each["embedding"] for each in answer.data])


def test_responses(url: str, model: str) -> None:
    answer: Any = litellm.responses(
        model=f"openai/{model}", api_base=f"{url}/v1", api_key="none", input=HELLO, max_output_tokens=30, temperature=0
    )
    assert "Paris" in answer.output_text
