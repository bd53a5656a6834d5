"""How a server begins to take requests, and how it ceases to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from running import children_of, until
from running_server import FOR_EVER, STARTER, WAIT_S, documents, gone, serving

LONG = {"grammar": FOR_EVER, "max_tokens": 900}


@pytest.fixture
def loading(stocked: Path) -> Iterator[tuple[str, psutil.Process, subprocess.Popen[bytes]]]:
    """A server whose worker was stopped in the middle of loading: its address, the worker, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("filbert")), "serve", "--port", str(port), "-m", STARTER]
    process = subprocess.Popen([*command, "--context", "512"], env={**os.environ, "FILBERT_HOME": str(stocked)})
    try:
        while not (workers := children_of(process.pid)):
            time.sleep(0.001)
        workers[0].suspend()
        yield f"http://127.0.0.1:{port}", workers[0], process
    finally:
        process.kill()
        process.wait()


def test_a_server_answers_while_it_loads_and_is_ready_when_it_has(
    loading: tuple[str, psutil.Process, subprocess.Popen[bytes]],
) -> None:
    url, worker, _ = loading
    assert httpx.get(f"{url}/health", timeout=WAIT_S).status_code == 200
    early = httpx.get(f"{url}/ready", timeout=WAIT_S)
    assert (early.status_code, early.json()["error"]["code"]) == (503, "not_ready")
    assert early.headers["retry-after"]
    worker.resume()
    assert until(lambda: httpx.get(f"{url}/ready", timeout=WAIT_S).status_code == 200)
    body = {"model": STARTER, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1}
    first = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=WAIT_S).json()
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"]  # its template was in the answer that warmed up


@pytest.mark.slow
def test_a_server_that_is_told_to_end_while_it_loads_does(
    loading: tuple[str, psutil.Process, subprocess.Popen[bytes]],
) -> None:
    url, worker, process = loading
    assert httpx.get(f"{url}/health", timeout=WAIT_S).status_code == 200
    process.terminate()
    assert process.wait(WAIT_S) == -signal.SIGTERM
    assert gone([worker])


def test_without_models_of_its_own_a_server_is_ready_at_once(stocked: Path) -> None:
    with serving(stocked) as server:
        assert server.http.get("/ready").json() == {"status": "ready"}
        assert not server.workers()


@pytest.mark.slow
def test_who_comes_while_a_server_drains_is_told_and_who_is_answered_is_answered(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--context", "1024", "--drain", "120") as server:
        with server.streaming(grammar=FOR_EVER, max_tokens=300) as running:
            events = documents(running.iter_lines())
            next(events)
            server.process.terminate()
            assert until(lambda: server.http.get("/ready").status_code == 503)
            late = server.post()
            assert (late.status_code, late.json()["error"]["code"]) == (503, "not_ready")
            assert late.headers["retry-after"]
            assert late.headers["connection"] == "close"
            ollama = server.http.post("/api/chat", json={"model": STARTER, "messages": []})
            assert (ollama.status_code, set(ollama.json())) == (503, {"error"})
            assert server.http.get("/health").status_code == 200
            *_, last = events
        assert last["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(WAIT_S) == -signal.SIGTERM


def test_an_answer_that_is_not_done_when_a_server_has_drained_says_so(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--context", "1024", "--drain", "0.5") as server:
        workers = server.workers()
        with server.streaming(**LONG) as running:
            events = documents(running.iter_lines())
            next(events)
            server.process.terminate()
            *_, last = events
        assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "not_ready")
        assert server.process.wait(WAIT_S) == -signal.SIGTERM
        assert gone(workers)


@pytest.mark.slow
def test_who_presses_ctrl_c_twice_does_not_wait(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--context", "1024", "--drain", "3600") as server:
        workers = server.workers()
        with server.streaming(**LONG) as running:
            events = documents(running.iter_lines())  # without a name it would end, and the connection with it
            next(events)
            server.process.send_signal(signal.SIGINT)
            assert until(lambda: server.http.get("/ready").status_code == 503)
            assert server.end(signal.SIGINT) == 0
        assert gone(workers)


@pytest.mark.slow
def test_an_answer_of_the_command_line_is_waited_for_although_it_does_not_pass_the_server(stocked: Path) -> None:
    command = [str(Path(sys.executable).with_name("filbert")), "chat", "-m", STARTER, "--max-tokens", "60", "Count."]
    with (
        serving(stocked, "-m", STARTER, "--context", "1024", "--drain", "120") as server,
        subprocess.Popen(command, stdout=subprocess.PIPE) as talking,
    ):
        assert talking.stdout and talking.stdout.read(1)
        assert server.end() == -signal.SIGTERM
        assert talking.wait(WAIT_S) == 0
