"""What an event loop does itself, and what it leaves to threads that may wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

import filbert
from filbert.core.messages import Message
from filbert.engine.sampling import Sampling
from filbert.engine.tools import Tool, tool_use
from filbert.engine.waiting import WouldWait, at_once
from running import until, worker_pid

Load = Callable[..., filbert.Model]
ASKED = [Message("user", "Hi")]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_a_short_question_is_prepared_at_once(tiny_model: filbert.Model) -> None:
    with at_once():
        found = tiny_model.prepare_chat(ASKED, Sampling(max_tokens=2))
    assert found == tiny_model.prepare_chat(ASKED, Sampling(max_tokens=2))


def test_what_asks_a_worker_or_takes_long_is_left_to_a_thread(tiny_model: filbert.Model) -> None:
    long = [Message("user", "word " * 500)]
    calls = [
        lambda: tiny_model.prepare_chat(long, Sampling(max_tokens=2)),
        lambda: tiny_model.prepare_chat(ASKED, Sampling(json_schema=SCHEMA)),
        lambda: tiny_model.prepare_chat(ASKED, Sampling(), tool_use([Tool("add", parameters=SCHEMA)], "auto", None)),
        lambda: tiny_model.prepare_text("a", Sampling(), suffix="b"),
        lambda: tiny_model.tokenize("Hi"),
    ]
    for call in calls:
        with at_once(), pytest.raises(WouldWait):
            call()
    assert tiny_model.tokenize("Hi")  # whoever may wait does


def test_a_socket_is_there_at_once_only_of_a_worker_that_runs(load: Load) -> None:
    model = load("dense")
    assert model.children.socket_at_once("text") is model.children.socket("text")
    assert model.children.socket_at_once("plain") is None
    os.kill(worker_pid(model), signal.SIGKILL)
    assert until(lambda: model.children.socket_at_once("text") is None)
    assert model.children.socket("text") is model.children.socket_at_once("text")
