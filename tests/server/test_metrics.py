"""What the server says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from running import until
from running_server import STARTER, RunningServer, sample, sent, serving


def test_metrics_count_tokens_requests_and_memory_by_model(server: RunningServer) -> None:
    tokens = sample(server, "filbert_completion_tokens_total", model=STARTER)
    answers = sample(server, "filbert_requests_total", model=STARTER, status="200")
    assert server.chat(max_tokens=5).usage.completion_tokens == 5
    with server.streaming(max_tokens=3) as stream:
        stream.read()
    assert sample(server, "filbert_completion_tokens_total", model=STARTER) == tokens + 8
    assert sample(server, "filbert_requests_total", model=STARTER, status="200") == answers + 2
    assert sample(server, "filbert_first_token_seconds_count", model=STARTER) >= 1
    assert sample(server, "filbert_model_memory_bytes", model=STARTER) > 98e6
    assert sample(server, "filbert_tokens_per_second_count", model=STARTER) >= 2
    assert until(lambda: sample(server, "filbert_running") == sample(server, "filbert_waiting") == 0)


def test_metrics_count_the_tokens_of_prompts_and_those_of_them_that_were_remembered(server: RunningServer) -> None:
    def counted() -> tuple[float, float]:
        names = ("filbert_prompt_tokens_total", "filbert_cached_tokens_total")
        prompt, cached = (sample(server, name, model=STARTER) for name in names)
        return prompt, cached

    once, twice = (server.chat("Tell me of metrics.", max_tokens=2).usage for _ in range(2))
    assert 0 < twice.prompt_tokens_details.cached_tokens < twice.prompt_tokens
    before = counted()
    again = server.chat("Tell me of metrics.", max_tokens=2).usage
    told = (again.prompt_tokens, again.prompt_tokens_details.cached_tokens)
    assert once.prompt_tokens == again.prompt_tokens and told[1] > 0
    assert counted() == (before[0] + told[0], before[1] + told[1])


def test_metrics_tell_of_who_is_answered_and_of_who_waits(server: RunningServer) -> None:
    def counted() -> tuple[float, float]:
        return sample(server, "filbert_running", model=STARTER), sample(server, "filbert_waiting", model=STARTER)

    with sent(server, max_tokens=4096), sent(server, max_tokens=4096):  # either wants all the room there is
        assert until(lambda: counted() == (1, 1))
    assert until(lambda: counted() == (0, 0))


def test_a_sample_that_there_is_not_is_not_taken_for_0(server: RunningServer) -> None:
    with pytest.raises(AssertionError, match="there is no filbert_wating"):
        sample(server, "filbert_wating")


def test_what_strangers_ask_for_makes_no_series(server: RunningServer) -> None:
    before = server.http.get("/metrics").text.count("\n")
    for number in range(20):
        server.http.get(f"/nothing/{number}")
        server.post(model=f"nothing-{number}")
    assert server.http.get("/metrics").text.count("\n") < before + 60
    assert "nothing" not in server.http.get("/metrics").text


def test_a_client_is_told_usage_only_where_it_asked(server: RunningServer) -> None:
    with server.streaming(max_tokens=3) as stream:
        assert '"usage"' not in stream.read().decode()
    with server.streaming(max_tokens=3, stream_options={"include_usage": True}) as stream:
        assert stream.read().decode().count('"usage"') == 1


@pytest.mark.slow
def test_each_request_has_an_id_and_leaves_a_line_that_says_nothing_of_what_was_said(stocked: Path) -> None:
    with serving(stocked, "--context", "512") as server:
        secret = "the-secret-word"
        named = server.http.post(
            "/v1/chat/completions",
            json={"model": STARTER, "messages": [{"role": "user", "content": secret}], "max_tokens": 4},
            headers={"x-request-id": "mine-1"},
        )
        other = server.http.get("/health", headers={"x-request-id": "two\twords"})
    assert named.headers["x-request-id"] == "mine-1"
    assert other.headers["x-request-id"] != "two\twords"
    log = (stocked / "log" / "filbert.log").read_text()
    assert secret not in log
    lines = [json.loads(line[line.index("{") :]) for line in log.splitlines() if '"request"' in line]
    (line,) = [each for each in lines if each["request"] == "mine-1"]
    assert (line["route"], line["status"], line["model"]) == ("/v1/chat/completions", 200, STARTER)
    assert line["completion_tokens"] == 4


def test_the_server_is_ready(server: RunningServer) -> None:
    assert server.http.get("/ready").json() == {"status": "ready"}
    assert server.http.get("/health").json() == {"status": "ok"}
