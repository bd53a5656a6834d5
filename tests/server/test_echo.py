"""Prompts told again: `echo`, and with `logprobs` how likely their tokens are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_leaving import asked, running

import make_tiny
from filbert.engine.forest import Item
from filbert.engine.scorer import Scorer
from filbert.models.store import in_place
from running import until
from running_server import STARTER, WAIT_S, RunningServer, serving

TEXT = "The old house by the river had been empty for years, until one winter a family moved in."
SCORES: dict[str, Any] = {"echo": True, "max_tokens": 1, "logprobs": 1, "temperature": 0, "seed": 1234}


@pytest.fixture(scope="module")
def scorer(starter: Path) -> Iterator[Scorer]:
    with Scorer(in_place(starter)) as scorer:
        yield scorer


def choices(server: RunningServer, prompt: Any, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": STARTER, "prompt": prompt, **SCORES, **fields}
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["choices"]
    return found


def one_by_one(scorer: Scorer, tokens: list[int]) -> list[tuple[float | None, bool]]:
    """What `score` says of each token after those before it."""
    items = [Item(tokens[:i], [tokens[i : i + 1]]) for i in range(1, len(tokens))]
    return [(scored.loglikelihood, scored.greedy) for (scored,) in scorer.score_items(items)]


def test_a_prompts_tokens_are_as_likely_as_the_scorer_says_and_as_greedy_as_lm_eval_reads_it(
    server: RunningServer, scorer: Scorer
) -> None:
    (tokens,) = scorer.tokenize([TEXT])
    (choice,) = choices(server, [tokens])
    told = choice["logprobs"]
    expected = one_by_one(scorer, tokens)
    sliced = list(zip(told["token_logprobs"], told["top_logprobs"], strict=True))[1:-1]
    assert [value for value, _ in sliced] == pytest.approx([value for value, _ in expected], abs=2e-3)
    assert [value == max(top.values()) for value, top in sliced] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in expected} == {True, False}
    assert [next(iter(top)) == token for (_, top), token in zip(sliced, told["tokens"][1:-1], strict=True)] == [
        greedy for _, greedy in expected
    ]
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None


def test_what_follows_is_the_likeliest_token_and_comes_only_where_one_is_asked_for(
    server: RunningServer, scorer: Scorer
) -> None:
    (tokens,) = scorer.tokenize(["The capital of France is"])
    (followed,), (alone,) = choices(server, tokens), choices(server, tokens, max_tokens=0)
    assert followed["text"] == alone["text"] + " Paris" == "The capital of France is Paris"
    assert [len(each["logprobs"]["tokens"]) for each in (followed, alone)] == [len(tokens) + 1, len(tokens)]
    assert followed["logprobs"]["top_logprobs"][-1] == {" Paris": followed["logprobs"]["token_logprobs"][-1]}
    assert followed["finish_reason"] == "length"


def test_of_a_text_without_tokens_nothing_is_told_but_what_follows(server: RunningServer) -> None:
    (choice,) = choices(server, "")
    assert choice["logprobs"]["tokens"] == [choice["text"]] != [""]
    assert choice["logprobs"]["text_offset"] == [0]


def test_a_text_and_its_tokens_get_the_same_answer_also_several_at_once(server: RunningServer, scorer: Scorer) -> None:
    texts = [TEXT, TEXT[:40], "Nuts — 栗 🌰"]
    tokens = scorer.tokenize(texts)
    alone = [choices(server, text)[0] for text in texts]
    for together in (choices(server, texts), choices(server, tokens)):
        assert [each["index"] for each in together] == [0, 1, 2]
        for one, many in zip(alone, together, strict=True):
            assert many["text"] == one["text"]
            assert many["logprobs"]["tokens"] == one["logprobs"]["tokens"]
            assert many["logprobs"]["token_logprobs"][1:] == pytest.approx(
                one["logprobs"]["token_logprobs"][1:], abs=2e-3
            )


def test_texts_are_told_as_they_were_sent_and_offsets_count_their_characters(server: RunningServer) -> None:
    text = "Nuts — 栗 🌰 end"
    (choice,) = choices(server, text, max_tokens=0, logprobs=3)
    told = choice["logprobs"]
    assert choice["text"] == text
    parts = [token for token in told["tokens"] if token.startswith("bytes:")]
    assert parts and len(parts) < len(told["tokens"])
    whole = [(text[at:].startswith(token)) for token, at in zip(told["tokens"], told["text_offset"], strict=True)]
    assert whole == [not token.startswith("bytes:") for token in told["tokens"]]
    assert told["text_offset"] == sorted(told["text_offset"])
    for value, token, top in list(zip(told["token_logprobs"], told["tokens"], told["top_logprobs"], strict=True))[1:]:
        assert 3 <= len(top) <= 4 and top[token] == value
        assert list(top.values()) == sorted(top.values(), reverse=True)


def test_the_usage_counts_prompts_and_tokens_that_follow(server: RunningServer) -> None:
    body = {"model": STARTER, "prompt": [[504, 3575], [282]], **SCORES}
    usage = server.http.post("/v1/completions", json=body).json()["usage"]
    assert usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_what_a_model_wants_before_every_text_is_read_and_not_told(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "begins.gguf", metadata={"tokenizer.ggml.add_bos_token": True})
    with serving(tmp_path / "home", "-m", str(path), "--context", "512") as server:
        told, empty, one = (choices(server, prompt, model="begins") for prompt in ("ab", "", "a"))
        assert told[0]["logprobs"]["tokens"][:-1] == ["a", "b"]
        assert len(empty[0]["logprobs"]["tokens"]) == 1 and empty[0]["logprobs"]["token_logprobs"][0] is not None
        assert one[0]["logprobs"]["token_logprobs"][0] is None


@pytest.mark.parametrize("prompt", ["1, 2, 3,", [[33, 28, 216, 34, 28]]], ids=["text", "tokens"])
def test_without_logprobs_the_prompt_stands_before_the_answer_streamed_and_whole(
    server: RunningServer, prompt: Any
) -> None:
    wish = {"model": STARTER, "prompt": prompt, "max_tokens": 4, "temperature": 0}
    plain = server.http.post("/v1/completions", json=wish).json()["choices"][0]["text"]
    told = server.http.post("/v1/completions", json={**wish, "echo": True, "n": 2}).json()["choices"]
    head = told[0]["text"].removesuffix(plain)
    assert head == (prompt if isinstance(prompt, str) else "1, 2,")
    assert [choice["text"] for choice in told] == [head + plain] * 2
    with server.http.stream("POST", "/v1/completions", json={**wish, "echo": True, "stream": True}) as answer:
        lines = list(filter(None, answer.iter_lines()))
    streamed = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(event["choices"][0]["text"] for event in streamed) == head + plain
    assert lines[-1] == "data: [DONE]" and not any(event.get("usage") for event in streamed)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"max_tokens": 2}, "max_tokens 0 or 1"),
        ({"max_tokens": None}, "max_tokens 0 or 1"),
        ({"temperature": 0.5}, "temperature 0"),
        ({"temperature": None}, "temperature 0"),
        ({"stream": True}, "stream does not go with"),
        ({"n": 2}, "n does not go with"),
        ({"suffix": "end"}, "suffix does not go with"),
        ({"stop": "x"}, "stop does not go with"),
        ({"grammar": 'root ::= "x"'}, "grammar does not go with"),
        ({"logit_bias": {"28": 1}}, "logit_bias does not go with"),
        ({"response_format": {"type": "json_object"}}, "response_format does not go with"),
        ({"logprobs": 21}, "logprobs is not as it should be"),
        ({"logprobs": None, "max_tokens": 0}, "max_tokens is 0"),
        ({"echo": False, "max_tokens": 0}, "max_tokens is 0"),
        ({"logprobs": None, "prompt": ["a", "b"]}, "one prompt"),
        ({"echo": False, "prompt": [[504], [282]]}, "one prompt"),
        ({"prompt": []}, "prompt is not as it should be"),
        ({"prompt": [[]]}, "not as it should be"),
        ({"prompt": [[504], []]}, "not as it should be"),
        ({"prompt": ["a", [504]]}, "not as it should be"),
        ({"prompt": [[504, 49152]]}, "no token 49152"),
        ({"prompt": [[504, 49152]], "logprobs": None}, "no token 49152"),
        ({"prompt": [[-1]]}, "not as it should be"),
        ({"prompt": ["a"] * 129}, "not as it should be"),
        ({"prompt": [[504] * 4096]}, "The prompt has 4096 tokens and the context holds 4096."),
        ({"prompt": ["a", "no " * 5000]}, "tokens and the context holds 4096."),
        ({"prompt": "no " * 1_000_000}, "4096 tokens of context hold"),
        ({"prompt": [[504] * 4000] * 128, "logprobs": 20}, "log-probabilities are too many"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_a_400_that_says_what_to_do(
    server: RunningServer, wish: dict[str, Any], said: str
) -> None:
    answer = server.http.post("/v1/completions", json={"model": STARTER, "prompt": "a", **SCORES, **wish})
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]["message"]


def test_who_leaves_while_a_prompt_is_scored_makes_room(narrow: RunningServer) -> None:
    long = {"prompt": [[504] * 8000], **SCORES}
    with asked(narrow, "/v1/completions", long):
        assert until(running(narrow, 1))
        assert until(lambda: len(narrow.workers()) == 2)
    assert until(running(narrow, 0))
    assert choices(narrow, "Nuts are")[0]["text"].startswith("Nuts are")


@pytest.mark.slow
def test_prompts_wait_in_line_and_end_at_their_deadline(starter: Path, tmp_path: Path) -> None:
    flags = ("--context", "1024", "--queue", "1", "--deadline", "4", "-m", str(starter))
    with serving(tmp_path / "home", *flags) as server:
        body = {"model": starter.stem, "prompt": "Nuts are", **SCORES}
        before = {worker.pid for worker in server.workers()}
        assert server.http.post("/v1/completions", json=body).status_code == 200
        (hung,) = (worker for worker in server.workers() if worker.pid not in before)
        hung.suspend()
        with asked(server, "/v1/completions", body) as first, asked(server, "/v1/completions", body) as second:
            full = f'filbert_waiting{{model="{starter.stem}"}} 1.0'
            assert until(lambda: full in server.http.get("/metrics").text)
            assert server.http.post("/v1/completions", json=body).status_code == 429
            statuses = sorted(connection.makefile("rb").readline().split()[1] for connection in (first, second))
        assert statuses == [b"504", b"504"]
        assert server.http.post("/v1/completions", json=body, timeout=WAIT_S).status_code == 200
