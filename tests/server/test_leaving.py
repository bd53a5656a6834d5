"""Clients that go away, on each route that answers. How fast, benchmarks/serve/leaving.py measures."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from running import until
from running_server import FOR_EVER, STARTER, WAIT_S, RunningServer

AGES = 6000  # tokens: an answer that is through long after our patience ends
HI = [{"role": "user", "content": "Say hi."}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": AGES, "grammar": FOR_EVER},
    "/v1/completions": {"prompt": "Say hi.", "max_tokens": AGES, "grammar": FOR_EVER},
    "/v1/responses": {"input": "Say hi.", "max_output_tokens": AGES, "grammar": FOR_EVER},
    "/v1/messages": {"messages": HI, "max_tokens": AGES, "grammar": FOR_EVER},
    "/api/chat": {"messages": HI, "options": {"num_predict": AGES, "grammar": FOR_EVER}},
    "/api/generate": {"prompt": "Say hi.", "options": {"num_predict": AGES, "grammar": FOR_EVER}},
}


def running(server: RunningServer, answers: int) -> Callable[[], bool]:
    """Whether so many answers are under way."""
    line = f'filbert_running{{model="{STARTER}"}} {answers}.0'
    return lambda: line in server.http.get("/metrics").text


def asked(server: RunningServer, route: str, body: dict[str, Any]) -> socket.socket:
    content = json.dumps({"model": STARTER, **body}).encode()
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=WAIT_S)
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("route", ROUTES)
def test_who_leaves_makes_room(narrow: RunningServer, route: str, stream: bool) -> None:
    with asked(narrow, route, {**ROUTES[route], "stream": stream}):
        assert until(running(narrow, 1))
    assert until(running(narrow, 0))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_who_leaves_while_a_prompt_is_read_makes_room(narrow: RunningServer, stream: bool) -> None:
    prompt = " ".join(f"{number}" for number in range(1000))
    endless = {"prompt": prompt, "max_tokens": 3000, "grammar": FOR_EVER, "stream": stream}
    with asked(narrow, "/v1/completions", endless):
        assert until(running(narrow, 1))
    assert until(running(narrow, 0))
