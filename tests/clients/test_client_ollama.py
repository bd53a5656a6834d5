"""ollama, of Python."""

from __future__ import annotations

import asyncio

import ollama
import pytest
from asked import CAPITAL, EMBEDDER, HELLO, TEXTS, TOOL, TOOLS_MODEL, WEATHER, Weather, alike
from ollama import Client

SHORT = {"num_predict": 30, "temperature": 0}
LONG = {"num_predict": 100}
ASK = [{"role": "user", "content": WEATHER}]


@pytest.fixture
def client(url: str) -> Client:
    return Client(url)


def test_a_plain_answer(client: Client, model: str) -> None:
    answer = client.chat(model, HELLO, options=SHORT)
    assert "Paris" in (answer.message.content or "")
    assert answer.done and (answer.prompt_eval_count or 0) > 10 and (answer.eval_count or 0) > 3


def test_a_stream(client: Client, model: str) -> None:
    parts = list(client.chat(model, HELLO, options=SHORT, stream=True))
    assert "Paris" in "".join(part.message.content or "" for part in parts)
    assert len(parts) > 4 and [part.done for part in parts].index(True) == len(parts) - 1


def test_an_asynchronous_stream(url: str, model: str) -> None:
    async def said() -> str:
        stream = await ollama.AsyncClient(url).chat(model, HELLO, options=SHORT, stream=True)
        return "".join([part.message.content or "" async for part in stream])

    assert "Paris" in asyncio.run(said())


def test_generate(client: Client, model: str) -> None:
    assert "Paris" in client.generate(model, CAPITAL, options=SHORT).response
    assert "Paris" in "".join(part.response for part in client.generate(model, CAPITAL, options=SHORT, stream=True))


def test_a_schema(client: Client, model: str) -> None:
    schema = Weather.model_json_schema()
    whole = client.chat(model, ASK, format=schema, options=LONG).message.content or ""
    parts = client.chat(model, ASK, format=schema, options=LONG, stream=True)
    for text in (whole, "".join(part.message.content or "" for part in parts)):
        assert Weather.model_validate_json(text)


def weather(town: str, unit: str) -> str:
    """The weather of a town.

    Args:
        town: its name
        unit: C or F
    """
    return f"Hail in {town}, 3 {unit}."


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_and_its_result(client: Client, model: str, stream: bool) -> None:
    """The protocol has no way to require a call, so what is asked for is the text of one."""
    call = '{"name": "weather", "arguments": {"town": "Ulm", "unit": "C"}}'
    ask = [{"role": "user", "content": f"Use the weather tool for Ulm. Answer with exactly this: {call}"}]
    schema = {"type": "object", "properties": {"name": {"const": "weather"}, "arguments": Weather.model_json_schema()}}
    form = {**schema, "required": ["name", "arguments"], "additionalProperties": False}
    if stream:
        parts = list(client.chat(model, ask, tools=[weather], format=form, options=LONG, stream=True))
        messages = [part.message for part in parts]
    else:
        messages = [client.chat(model, ask, tools=[weather], format=form, options=LONG).message]
    (made,) = [made for message in messages for made in message.tool_calls or []]
    assert made.function.name == "weather"
    heard = {"role": "tool", "tool_name": "weather", "content": weather(**made.function.arguments)}
    told = next(message for message in messages if message.tool_calls)
    assert client.chat(model, [*ask, told, heard], tools=[TOOL], options=SHORT).message


def test_embeddings(client: Client) -> None:
    assert alike(client.embed(EMBEDDER, TEXTS).embeddings)
    assert alike([client.embeddings(EMBEDDER, text).embedding for text in TEXTS])


def test_models(client: Client, model: str) -> None:
    listed = {each.model for each in client.list().models}
    assert {TOOLS_MODEL, EMBEDDER} < listed and len(listed) == 3
    assert {each.model for each in client.ps().models} <= listed
    assert "completion" in (client.show(model).capabilities or [])
    with pytest.raises(ollama.ResponseError, match="smollm2"):
        client.chat("smollm2:136m", HELLO)
