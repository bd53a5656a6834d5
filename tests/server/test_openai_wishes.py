"""Wishes of OpenAI's clients beyond the plain answer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import openai
import pytest

import make_tiny
from running_server import STARTER, RunningServer, serving

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


def test_several_answers_to_one_prompt(server: RunningServer) -> None:
    whole = server.chat("Tell a story.", n=3, max_tokens=6, temperature=1.5)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in whole.choices)
    assert whole.usage.completion_tokens == 18
    seen: dict[int, str] = {0: "", 1: ""}
    for event in server.chat("Tell a story.", n=2, max_tokens=6, stream=True):
        for choice in event.choices:
            seen[choice.index] += choice.delta.content or ""
    assert all(seen.values())
    assert "at once" in server.post(n=5).json()["error"]["message"]
    assert server.post(n=4, max_tokens=2000).status_code == 400


def test_several_answers_that_must_call_a_tool_each_hold_a_call(server: RunningServer) -> None:
    whole = server.chat("Weather in Ulm?", n=2, max_tokens=60, tools=[TOOL], tool_choice="required")
    assert [choice.message.tool_calls[0].function.name for choice in whole.choices] == ["weather", "weather"]


def test_a_bias_forces_a_token(server: RunningServer) -> None:
    def forced(prompt: str) -> str:
        body = {"model": STARTER, "prompt": prompt, "max_tokens": 3, "logit_bias": {"28": 100}}
        return str(server.http.post("/v1/completions", json=body).json()["choices"][0]["text"])

    assert forced("a") == forced("b") != ""


@pytest.mark.parametrize("bias", [{"x": 1}, {"-1": 1}, {"1": 101}, {"1": "a lot"}, [1]])
def test_a_bias_that_is_none_is_refused(server: RunningServer, bias: Any) -> None:
    assert server.post(logit_bias=bias).status_code == 400


def test_a_prompt_of_tokens(server: RunningServer) -> None:
    def complete(prompt: Any) -> Any:
        return server.http.post("/v1/completions", json={"model": STARTER, "prompt": prompt, "max_tokens": 3})

    tokens = [504, 3575, 282]
    one, nested = complete(tokens), complete([tokens])
    assert one.json()["usage"]["prompt_tokens"] == 3
    assert nested.json()["usage"]["prompt_tokens"] == 3
    assert complete([49152]).status_code == 400
    assert complete([-1]).status_code == 400
    assert complete([]).status_code == 400


def test_embeddings_of_tokens_and_with_fewer_dimensions(server: RunningServer) -> None:
    def embed(given: Any, **more: Any) -> Any:
        return server.http.post("/v1/embeddings", json={"model": STARTER, "input": given, **more})

    (whole,), (part,) = (
        [row["embedding"] for row in embed("a text", **more).json()["data"]] for more in ({}, {"dimensions": 64})
    )
    assert (len(whole), len(part)) == (576, 64)
    assert math.isclose(math.hypot(*part), 1, rel_tol=1e-6)
    assert math.isclose(part[0] / part[1], whole[0] / whole[1], rel_tol=1e-6)
    assert len(embed([[504, 3575], [282]]).json()["data"]) == 2
    assert embed([504, 3575]).json()["usage"]["prompt_tokens"] >= 2
    assert embed("a text", dimensions=577).status_code == 400
    assert embed([49152]).status_code == 400


def test_an_answer_goes_on_from_what_the_assistant_began(server: RunningServer) -> None:
    messages = [{"role": "user", "content": "Count to five."}, {"role": "assistant", "content": "One, two, three,"}]
    said = server.openai.chat.completions.create(model=STARTER, messages=messages, max_tokens=3, temperature=0)
    assert "four" in said.choices[0].message.content.lower()


def test_a_reranker_is_asked_for_and_others_are_told_apart(server: RunningServer) -> None:
    wrong = server.http.post("/v1/rerank", json={"model": STARTER, "query": "a", "documents": ["b"]})
    assert wrong.status_code == 400
    assert "reranker" in wrong.json()["error"]["message"]


def test_a_model_is_deleted_and_unknown_afterwards(served_alone: RunningServer) -> None:
    assert served_alone.chat(max_tokens=1).choices
    gone = served_alone.http.delete(f"/v1/models/{STARTER}")
    assert gone.json() == {"id": STARTER, "object": "model", "deleted": True}
    assert served_alone.post().status_code == 404
    assert served_alone.http.delete("/v1/models/nothing").status_code == 404
    assert served_alone.http.get("/health").status_code == 200


def test_what_stands_before_a_suffix_is_asked_for_by_the_models_own_marks(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "coder.gguf", marks=["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    with serving(tmp_path / "home", "-m", str(path), "--context", "512") as running:
        wish: dict[str, Any] = {
            "model": "coder",
            "prompt": "a",
            "temperature": 0,
            "max_tokens": 6,
            "logit_bias": {"65": 9},
        }
        between = running.openai.completions.create(suffix="b", **wish)
        assert between.usage and between.usage.prompt_tokens == 5  # three marks around two letters
        by_hand = wish | {"prompt": "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"}
        assert running.openai.completions.create(**by_hand).choices[0].text == between.choices[0].text != ""
        stream = running.openai.completions.create(suffix="b", stream=True, **wish)
        assert "".join(chunk.choices[0].text for chunk in stream) == between.choices[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_a_suffix_is_refused_where_the_model_has_no_marks_for_it(server: RunningServer, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="does not fill in what is missing"):
        server.openai.completions.create(model=STARTER, prompt="def add(a, b):", suffix="return c", stream=stream)


def test_a_suffix_to_a_prompt_of_tokens_is_refused(server: RunningServer) -> None:
    answer = server.post("/v1/completions", prompt=[504, 3575], suffix="end")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "suffix")
