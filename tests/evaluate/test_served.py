"""Models on other servers as scorers: the numbers are those of a model here, and servers fail in every way."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_run import DOCUMENTS, evaluated, kept_folder

import make_tiny
from filbert.core.errors import BadInput, UnknownRoute, UpstreamDown, UpstreamError
from filbert.engine.scorer import Scorer
from filbert.evaluate.kept_runs import items_of
from filbert.evaluate.served import served
from filbert.models.store import in_place
from filbert.server.keys import Keys, Wanted
from other_server import document, other_server
from running_server import WAIT_S, RunningServer, serving

ODD = {
    "id": "odd",
    "question": "Which tree bears this — 栗?",
    "choices": {"text": ["a chestnut 🌰", "the pine", "栗の木"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}
ASKED = [*DOCUMENTS[:10], ODD]
NAME = "tiny"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not quantised: of a quantised one a decode of few tokens is rounded otherwise than one of many."""
    return make_tiny.dense(tmp_path_factory.mktemp("tiny") / f"{NAME}.gguf")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(tmp_path_factory.mktemp("served"), "-m", str(model), "--context", "512") as running:
        yield running


def hang_up(to: BaseHTTPRequestHandler) -> None:
    to.close_connection = True
    to.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Relay:
    """A server of another kind in front of ours. has_tokens: whether it tells tokens; broken: what becomes of a request
    for scores, by its number, before it is passed on; changed: what becomes of an answer."""

    url: str
    has_tokens: bool = True
    broken: Callable[[BaseHTTPRequestHandler, int], bool] = lambda to, number: False
    changed: Callable[[dict[str, Any]], None] = lambda said: None
    scored: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=WAIT_S))

    def __call__(self, to: Any) -> None:
        path, body = to.heard.path, to.heard.body
        if path == "/tokenize" and not self.has_tokens:
            document(to, {"error": {"message": "Not Found"}}, 404)
            return
        if path != "/tokenize":
            with self.lock:
                self.scored += 1
                number = self.scored
            if self.broken(to, number):
                return
            assert self.has_tokens or isinstance(body["prompt"], str)  # some take no lists
        answer = self.http.post(self.url + path, json=body)
        said = answer.json()
        if "choices" in said:
            self.changed(said)
        document(to, json.dumps(said).encode(), answer.status_code)


@pytest.fixture
def here(model: Path) -> Iterator[Scorer]:
    with Scorer(in_place(model), threads=1, context=510) as scorer:
        yield scorer


@pytest.mark.parametrize("has_tokens", [True, False], ids=["tokens", "texts"])
def test_a_served_model_chooses_as_it_does_here(server: RunningServer, here: Scorer, has_tokens: bool) -> None:
    ours = items_of(evaluated(here, ASKED).run)
    with (
        other_server(Relay(server.url, has_tokens), NAME) as other,
        served(other.url, NAME) as scorer,
    ):
        result = evaluated(scorer, ASKED)
    theirs = items_of(result.run)
    for mine, other_row in zip(ours, theirs, strict=True):
        assert other_row["loglikelihoods"] == pytest.approx(mine["loglikelihoods"], rel=1e-3)
        for same in ("chosen", "chosen_norm", "right", "tokens", "greedy", "question", "choices"):
            assert other_row[same] == mine[same]
    made_by = result.metrics[0].made_by
    assert (made_by.model, made_by.model_sha256) == (f"{NAME} at {other.url}", "")
    assert "weights unknown" in str(made_by)


@pytest.mark.slow
def test_a_model_that_wants_a_mark_before_every_text_gets_it(tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "begins.gguf", metadata={"tokenizer.ggml.add_bos_token": True})
    with Scorer(in_place(path), threads=1) as scorer:
        ours, start = items_of(evaluated(scorer, ASKED).run), scorer.start
    with (
        serving(tmp_path / "served", "-m", str(path), "--context", "512") as server,
        served(server.url, "begins") as scorer,
    ):
        assert list(scorer.start) == start and len(start) == 1 and scorer.first == start[0]
        theirs = items_of(evaluated(scorer, ASKED).run)
    for mine, other in zip(ours, theirs, strict=True):
        assert other["loglikelihoods"] == pytest.approx(mine["loglikelihoods"], rel=1e-3)


def without_prompt(said: dict[str, Any]) -> None:
    """As llama-server answers, which passes over `echo`."""
    for choice in said["choices"]:
        told = choice["logprobs"]
        choice["logprobs"] = {name: values[-1:] for name, values in told.items()} | {"text_offset": [0]}
        choice["text"] = told["tokens"][-1]


def without_numbers(said: dict[str, Any]) -> None:
    for choice in said["choices"]:
        choice["logprobs"] = None


@pytest.mark.parametrize("has_tokens", [True, False], ids=["tokens", "texts"])
@pytest.mark.parametrize("changed", [without_prompt, without_numbers])
def test_a_server_that_tells_nothing_of_prompts_is_refused_at_once(
    server: RunningServer, has_tokens: bool, changed: Callable[[dict[str, Any]], None]
) -> None:
    relay = Relay(server.url, has_tokens, changed=changed)
    with (
        other_server(relay, NAME) as other,
        served(other.url, NAME) as scorer,
        pytest.raises(UpstreamError, match="does not tell how likely the tokens of a prompt are"),
    ):
        evaluated(scorer, DOCUMENTS)
    assert relay.scored < len(DOCUMENTS)


def test_what_is_no_number_leaves_its_item_without_and_counts_as_wrong(server: RunningServer) -> None:
    values = iter([None, math.nan, -math.inf])

    def changed(said: dict[str, Any]) -> None:
        told = said["choices"][0]["logprobs"]["token_logprobs"]
        told[-2] = next(values, told[-2])

    with other_server(Relay(server.url, changed=changed), NAME) as other, served(other.url, NAME) as scorer:
        acc = evaluated(scorer, DOCUMENTS[:8]).metrics[0]
    assert (acc.n, acc.n_invalid) == (5, 3)


def test_a_server_that_is_busy_or_away_for_a_moment_is_asked_again(server: RunningServer) -> None:
    with served(server.url, NAME) as scorer:
        unbroken = items_of(evaluated(scorer, ASKED).run)

    def broken(to: BaseHTTPRequestHandler, number: int) -> bool:
        if number in (3, 4):
            document(to, {"error": {"message": "one moment"}}, (429, 503)[number - 3], Retry_After="0")
        elif number in (6, 7):
            hang_up(to)
        return number in (3, 4, 6, 7)

    relay = Relay(server.url, broken=broken)
    with other_server(relay, NAME) as other, served(other.url, NAME, pause_s=0.01) as scorer:
        rows = items_of(evaluated(scorer, ASKED).run)
    assert [row["loglikelihoods"] for row in rows] == [
        pytest.approx(row["loglikelihoods"], rel=1e-3) for row in unbroken
    ]
    assert relay.scored == len(ASKED) + 4


@pytest.mark.slow
def test_a_run_goes_on_when_a_server_that_died_is_back(server: RunningServer) -> None:
    def dead(to: BaseHTTPRequestHandler, number: int) -> bool:
        if number > 12:
            hang_up(to)
        return number > 12

    relay = Relay(server.url, broken=dead)
    with (
        other_server(relay, NAME) as other,
        served(other.url, NAME, pause_s=0.001) as scorer,
        pytest.raises(UpstreamDown, match="The same command goes on where it was"),
    ):
        evaluated(scorer, DOCUMENTS)
    kept = Relay(server.url)
    with other_server(kept, NAME, port=other.port) as other, served(other.url, NAME) as scorer:
        resumed = evaluated(scorer, DOCUMENTS)
    assert len(DOCUMENTS) - 12 <= kept.scored < len(DOCUMENTS)
    assert resumed.metrics[0].n == len(DOCUMENTS)
    with served(server.url, NAME) as scorer:
        assert evaluated(scorer, DOCUMENTS).metrics[0].value == resumed.metrics[0].value


@pytest.mark.slow
def test_a_prompt_over_the_context_loses_its_beginning_or_is_left_out(tmp_path: Path) -> None:
    long = {**DOCUMENTS[0], "question": "word " * 400 + "which?"}
    path = make_tiny.dense(tmp_path / "tiny.gguf")
    with serving(tmp_path / "served", "-m", str(path), "--context", "256") as server:
        with served(server.url, "tiny") as scorer:
            cut = evaluated(scorer, [long, *DOCUMENTS[1:4]])
        with (
            other_server(Relay(server.url, has_tokens=False), "tiny") as other,
            served(other.url, "tiny") as scorer,
        ):
            left_out = evaluated(scorer, [long, *DOCUMENTS[1:4]])
    assert (cut.n_cut, cut.metrics[0].n, cut.metrics[0].n_invalid) == (1, 4, 0)
    assert (left_out.n_cut, left_out.metrics[0].n, left_out.metrics[0].n_invalid) == (0, 3, 1)


def test_a_key_opens_the_server_and_is_told_to_nobody_else(model: Path, tmp_path: Path) -> None:
    (tmp_path / "guarded").mkdir()
    keys = Keys(f"sqlite:///{tmp_path / 'guarded' / 'keys.db'}")
    key = keys.add(Wanted("ada"))[1]
    keys.close()
    with serving(tmp_path / "guarded", "-m", str(model), "--context", "512", "--require-key") as guarded:
        for wrong in ("", f"{key}x"):
            with pytest.raises(UpstreamError, match="FILBERT_SERVER_KEY") as told, served(guarded.url, NAME, wrong):
                pass
            assert key not in str(told.value)
        with served(guarded.url, NAME, key) as scorer:
            result = evaluated(scorer, DOCUMENTS[:2])
    for file in kept_folder().iterdir():
        assert key.encode() not in file.read_bytes()
    assert key not in str(result)


def test_a_redirect_is_not_followed(server: RunningServer) -> None:
    with other_server(Relay(server.url), NAME) as elsewhere:
        moved = lambda to: document(to, {}, 307, Location=elsewhere.url)  # noqa: E731
        with (
            other_server(moved, NAME) as other,
            pytest.raises(UpstreamError, match="sends on to another address"),
            served(other.url, NAME, "secret"),
        ):
            pass
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("url", "key", "error", "told"),
    [
        ("http://127.0.0.1:9", "", UpstreamDown, "does not answer"),
        ("ftp://127.0.0.1", "", BadInput, "no address of a server"),
        ("http://user:hidden@127.0.0.1", "", BadInput, "holds no key"),
        ("http://box.example/v1", "secret", BadInput, "unencrypted"),
        ("http://127.0.0.1", "two words", BadInput, "key of the server"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(url: str, key: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told) as raised, served(url, NAME, key):
        pass
    assert "hidden" not in str(raised.value) and "secret" not in str(raised.value)


def test_a_model_that_is_not_there_is_told_by_the_server(server: RunningServer) -> None:
    with served(server.url, "nobody") as scorer, pytest.raises(UnknownRoute, match="nobody"):
        evaluated(scorer, DOCUMENTS[:2])
