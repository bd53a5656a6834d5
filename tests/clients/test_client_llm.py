"""llm, through its settings for servers that speak as OpenAI's do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asked import CAPITAL, TOOLS_MODEL, WEATHER, Weather

MODELS = """
- model_id: local
  model_name: {model}
  api_base: {url}/v1
  supports_schema: true
  supports_tools: true
"""
TOOL = """
def weather(town: str) -> str:
    "The weather of a town."
    return "It hails in " + town
"""


class LLM:
    """The command, with settings of its own."""

    def __init__(self, folder: Path, url: str, model: str) -> None:
        self._folder = folder
        (folder / "extra-openai-models.yaml").write_text(MODELS.format(url=url, model=model))

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("llm")), *words, "-o", "temperature", "0"]
        environment = {**os.environ, "LLM_USER_PATH": str(self._folder)}
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def llm(url: str, model: str, tmp_path: Path) -> LLM:
    return LLM(tmp_path, url, model)


@pytest.mark.parametrize("flags", [(), ("--no-stream",)], ids=["stream", "plain"])
def test_an_answer(llm: LLM, flags: tuple[str, ...]) -> None:
    assert "Paris" in llm("-m", "local", *flags, CAPITAL, "-o", "max_tokens", "30").stdout


def test_a_chat_that_goes_on(llm: LLM) -> None:
    llm("-m", "local", CAPITAL, "-o", "max_tokens", "30")
    assert "Paris" in llm("-c", "Which city did you name?", "-o", "max_tokens", "30").stdout


def test_a_schema(llm: LLM) -> None:
    schema = json.dumps(Weather.model_json_schema())
    said = llm("-m", "local", "--schema", schema, WEATHER, "-o", "max_tokens", "100").stdout
    assert Weather.model_validate_json(said)


def test_a_tool_that_may_be_called(url: str, tmp_path: Path) -> None:
    """Nothing here can require a call, so it is asked of the model that knows how to make one."""
    llm = LLM(tmp_path, url, TOOLS_MODEL)
    said = llm("-m", "local", "--functions", TOOL, "--td", "How is the weather in Ulm?", "-o", "max_tokens", "30")
    assert "Tool call: weather({'town': 'Ulm'})\n  It hails in Ulm" in said.stderr
