"""Whom a server contacts: nobody, unless it is asked to pull."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import make_tiny
from models.model_servers import HubServer
from models.model_servers import serving as serving_hub
from running_server import RunningServer, install, serving

# The server's processes tell what Python connects to and looks up. uvloop does both without telling Python.
WATCHED = """
import json, os, sys
sys.modules["uvloop"] = None
told = os.open(os.environ["CONTACTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
WHERE = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
         "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}
def hook(event, arguments):
    if event in WHERE:
        where = arguments[WHERE[event]]
        host = where[0] if isinstance(where, tuple) else where
        os.write(told, (json.dumps([event, host if isinstance(host, str) else repr(host)]) + "\\n").encode())
sys.addaudithook(hook)
"""
NAME = "tiny:1b-q8_0"
HI = [{"role": "user", "content": "Say hi."}]
CHATS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": 4},
    "/v1/messages": {"messages": HI, "max_tokens": 4},
    "/v1/responses": {"input": HI, "max_output_tokens": 4},
    "/api/chat": {"messages": HI, "options": {"num_predict": 4}, "stream": False},
}
OTHERS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hi", "max_tokens": 4},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/rerank": {"query": "Hi", "documents": ["Hi"]},
    "/v1/messages/count_tokens": {"messages": HI},
    "/api/generate": {"prompt": "Hi", "stream": False},
    "/api/embed": {"input": "Hi"},
    "/api/embeddings": {"prompt": "Hi"},
    "/api/show": {},
}


def ask(server: RunningServer, route: str, model: str) -> int:
    return server.http.post(route, json={"model": model, **(CHATS | OTHERS)[route]}).status_code


def processes(server: RunningServer) -> list[psutil.Process]:
    return [psutil.Process(server.process.pid), *server.workers()]


def test_a_server_that_answers_contacts_only_its_own_workers(home: Path, tmp_path: Path) -> None:
    path = make_tiny.dense(tmp_path / "tiny.gguf")
    install(home, path, NAME, hashlib.sha256(path.read_bytes()).hexdigest())
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCHED)
    contacted = tmp_path / "contacted"
    known = os.pathsep.join([str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with serving(home, "--context", "512", PYTHONPATH=known, CONTACTED=str(contacted)) as server:
        assert {route: ask(server, route, NAME) for route in CHATS} == dict.fromkeys(CHATS, 200)
        reached = {each.raddr.ip for one in processes(server) for each in one.net_connections("inet") if each.raddr}
    told = [json.loads(line) for line in contacted.read_text().splitlines()]
    workers = [host for event, host in told if event == "socket.connect" and host.startswith("/")]
    assert len(workers) >= len(CHATS)
    assert [each for each in told if each[1] not in {*workers, "127.0.0.1"}] == []
    assert reached <= {"127.0.0.1"}  # also by native code


@pytest.fixture
def hub() -> Iterator[HubServer]:
    origin = HubServer()
    with serving_hub(origin):
        yield origin


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2:135m", "hf:acme/Tiny"])
def test_whoever_asks_for_a_model_that_is_not_here_pulls_nothing(
    home: Path, hub: HubServer, tmp_path: Path, name: str
) -> None:
    hub.repos["acme/Tiny"] = {"Tiny-Q4_K_M.gguf": make_tiny.dense(tmp_path / "tiny.gguf").read_bytes()}
    nets = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PIP_INDEX_URL": f"{hub.url}/simple/"}
    with serving(home, **nets) as server:
        routes = CHATS | OTHERS
        assert {route: ask(server, route, name) for route in routes} == dict.fromkeys(routes, 404)
        assert hub.requests == 0
        assert server.http.get("/api/tags").json() == {"models": []}
        server.http.post("/api/pull", json={"model": name, "stream": False})
        assert hub.requests > 0  # it would have been heard
