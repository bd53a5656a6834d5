"""instructor, in the modes that local models are used with."""

from __future__ import annotations

from typing import Any

import instructor
import pytest
from anthropic import Anthropic
from asked import TOOLS_MODEL, WEATHER, Weather
from instructor import Mode
from openai import OpenAI

ASK: Any = [{"role": "user", "content": WEATHER}]


def client(url: str, mode: Mode) -> Any:
    return instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), mode=mode)


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON_SCHEMA])
def test_a_schema(url: str, model: str, mode: Mode) -> None:
    found = client(url, mode).create(model=model, messages=ASK, response_model=Weather, max_tokens=100)
    assert isinstance(found, Weather)


def test_a_schema_that_only_the_prompt_tells_of(url: str) -> None:
    """What comes is some JSON; the starter copies the schema."""
    wish: Any = {"messages": ASK, "response_model": Weather, "max_tokens": 100, "temperature": 0}
    assert isinstance(client(url, Mode.JSON).create(model=TOOLS_MODEL, **wish), Weather)


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON_SCHEMA])
def test_a_schema_that_grows(url: str, model: str, mode: Mode) -> None:
    grown = list(client(url, mode).create_partial(model=model, messages=ASK, response_model=Weather, max_tokens=100))
    assert len(grown) > 2 and grown[-1].town is not None and grown[-1].unit in ("C", "F")


def test_through_anthropic_s_client(url: str, model: str) -> None:
    made: Any = instructor.from_anthropic(Anthropic(base_url=url, api_key="none", max_retries=0))
    assert isinstance(made.create(model=model, messages=ASK, response_model=Weather, max_tokens=100), Weather)
