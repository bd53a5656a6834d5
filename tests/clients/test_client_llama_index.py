"""llama-index-llms-openai-like."""

from __future__ import annotations

from typing import Any

import pytest
from asked import CAPITAL, STARTER, WEATHER, Weather
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def made(url: str, model: str, **more: Any) -> OpenAILike:
    wish: Any = {"is_chat_model": True, "max_tokens": 100, "max_retries": 0, "temperature": 0, **more}
    return OpenAILike(api_base=f"{url}/v1", api_key="none", model=model, **wish)


@pytest.fixture
def llm(url: str, model: str) -> OpenAILike:
    return made(url, model, is_function_calling_model=True, should_use_structured_outputs=True)


def test_a_plain_answer(llm: OpenAILike) -> None:
    assert "Paris" in llm.complete(CAPITAL).text
    assert "Paris" in (llm.chat([ChatMessage(role="user", content=CAPITAL)]).message.content or "")


def test_a_stream(llm: OpenAILike) -> None:
    pieces = [chunk.delta or "" for chunk in llm.stream_chat([ChatMessage(role="user", content=CAPITAL)])]
    assert "Paris" in "".join(pieces) and len(pieces) > 4


def test_completions_without_a_template(url: str) -> None:
    llm = made(url, STARTER, is_chat_model=False, max_tokens=8)
    assert "Paris" in llm.complete("The capital of France is").text
    assert "Paris" in "".join(chunk.delta or "" for chunk in llm.stream_complete("The capital of France is"))


def weather(town: str, unit: str) -> str:
    """The weather of a town; the unit is C or F."""
    return f"Hail in {town}, 3 {unit}."


def test_a_tool(llm: OpenAILike) -> None:
    tool = FunctionTool.from_defaults(weather)
    answer = llm.chat_with_tools([tool], user_msg=WEATHER, tool_required=True)
    (call,) = llm.get_tool_calls_from_response(answer)
    assert call.tool_name == "weather" and set(call.tool_kwargs) == {"town", "unit"}


def test_a_schema(llm: OpenAILike) -> None:
    assert isinstance(llm.structured_predict(Weather, PromptTemplate(WEATHER)), Weather)
