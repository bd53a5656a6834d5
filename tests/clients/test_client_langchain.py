"""langchain-openai."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from asked import CAPITAL, EMBEDDER, TEXTS, WEATHER, Weather, alike
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

NO_KEY = SecretStr("none")


@pytest.fixture
def chat(url: str, model: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{url}/v1", api_key=NO_KEY, model=model, max_retries=0, temperature=0, max_tokens=100)


def test_a_plain_answer(chat: ChatOpenAI) -> None:
    answer = chat.invoke(CAPITAL)
    assert "Paris" in answer.text
    assert answer.usage_metadata and answer.usage_metadata["output_tokens"] > 3


def test_a_stream(chat: ChatOpenAI) -> None:
    chunks = list(chat.stream(CAPITAL, stream_usage=True))
    assert "Paris" in "".join(chunk.text for chunk in chunks) and len(chunks) > 4
    assert any(chunk.usage_metadata for chunk in chunks)


def test_an_asynchronous_stream(chat: ChatOpenAI) -> None:
    async def said() -> str:
        return "".join([chunk.text async for chunk in chat.astream(CAPITAL)])

    assert "Paris" in asyncio.run(said())


def test_a_tool_and_its_result(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([Weather], tool_choice="required", parallel_tool_calls=False)
    ask: list[Any] = [HumanMessage(WEATHER)]
    answer = bound.invoke(ask)
    (call,) = answer.tool_calls
    assert Weather.model_validate(call["args"])
    heard = ToolMessage("Hail, 3 degrees.", tool_call_id=call["id"])
    then = chat.bind_tools([Weather], max_tokens=20).invoke([*ask, answer, heard])
    assert then.text or then.tool_calls


def test_a_streamed_call(chat: ChatOpenAI) -> None:
    whole: Any = None
    for chunk in chat.bind_tools([Weather], tool_choice="Weather").stream(WEATHER):
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    assert Weather.model_validate(call["args"])


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_schema(chat: ChatOpenAI, method: Literal["json_schema", "function_calling"]) -> None:
    assert isinstance(chat.with_structured_output(Weather, method=method).invoke(WEATHER), Weather)


def test_responses(chat: ChatOpenAI, url: str, model: str) -> None:
    """It speaks OpenAI's newer route where it is told to."""
    newer = ChatOpenAI(
        base_url=f"{url}/v1", api_key=NO_KEY, model=model, use_responses_api=True, temperature=0, max_tokens=30
    )
    assert "Paris" in newer.invoke(CAPITAL).text
    assert "Paris" in "".join(chunk.text for chunk in newer.stream(CAPITAL))


def test_embeddings(url: str) -> None:
    """Where it checks lengths itself it sends the numbers of OpenAI's own tokens, which mean nothing to other models."""
    made = OpenAIEmbeddings(base_url=f"{url}/v1", api_key=NO_KEY, model=EMBEDDER, check_embedding_ctx_length=False)
    assert alike(made.embed_documents(TEXTS))
