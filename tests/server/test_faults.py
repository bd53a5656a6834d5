"""What happens to a server, done to it: clients that leave, workers that die or hang, models that go."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from running_server import FOR_EVER, STARTER, WAIT_S, RunningServer, documents, gone, serving

FOR_AGES = {"grammar": FOR_EVER, "max_tokens": 7500}
A_WORD = 2  # tokens
ROOM_S = 40  # far less than FOR_AGES takes, far more than a word does


def sent(server: RunningServer, text: str = "Say hi.", **fields: object) -> socket.socket:
    """A request under way on a connection of its own."""
    body = {"model": STARTER, "messages": [{"role": "user", "content": text}], **FOR_AGES, **fields}
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=WAIT_S)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def room(server: RunningServer) -> bool:
    """Whether there is room for another, long before whoever was there is through."""
    return bool(server.chat(max_tokens=A_WORD, timeout=ROOM_S).choices)


def test_a_client_that_leaves_in_the_middle_of_its_stream_makes_room(narrow: RunningServer) -> None:
    with narrow.streaming(**FOR_AGES) as answer:
        events = documents(answer.iter_lines())
        assert [next(events)["object"] for _ in range(3)] == ["chat.completion.chunk"] * 3
    assert room(narrow)


def test_a_client_that_leaves_before_the_first_token_makes_room(narrow: RunningServer) -> None:
    with sent(narrow, "word " * 4000, stream=True, max_tokens=3000) as connection, pytest.raises(TimeoutError):
        connection.settimeout(0.5)  # the prompt takes longer than that
        connection.recv(1)
    assert room(narrow)


def test_a_client_that_leaves_without_having_asked_for_a_stream_makes_room(narrow: RunningServer) -> None:
    with sent(narrow) as connection, pytest.raises(TimeoutError):
        connection.settimeout(0.5)
        connection.recv(1)
    assert room(narrow)


def test_a_client_that_leaves_the_queue_makes_room(narrow: RunningServer) -> None:
    with narrow.streaming(**FOR_AGES) as answer:
        next(documents(answer.iter_lines()))
        with sent(narrow), sent(narrow, stream=True):
            pass
    assert room(narrow)


def test_a_reader_that_is_slow_gets_its_whole_answer(narrow: RunningServer) -> None:
    with sent(narrow, stream=True, max_tokens=60) as connection:
        connection.settimeout(WAIT_S)
        received = b""
        while b"data: [DONE]" not in received:
            piece = connection.recv(64)
            assert piece, "the stream was cut"
            received = received[-100:] + piece
    assert narrow.chat(max_tokens=A_WORD).choices


def test_a_worker_killed_in_the_middle_of_a_stream_ends_it_with_an_error(narrow: RunningServer) -> None:
    killed = narrow.worker()
    with narrow.streaming(**FOR_AGES) as answer:
        events = documents(answer.iter_lines())
        next(events)
        killed.kill()
        *_, last = events
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "engine_crashed")
    assert narrow.chat(max_tokens=A_WORD).choices
    assert gone([killed]) and narrow.worker() != killed


def test_a_worker_killed_before_the_first_token_is_a_500(narrow: RunningServer) -> None:
    killed = narrow.worker()
    with sent(narrow, "word " * 3000, max_tokens=4) as connection:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        killed.kill()
        connection.settimeout(WAIT_S)
        assert connection.recv(4096).startswith(b"HTTP/1.1 500 ")
    assert narrow.chat(max_tokens=A_WORD).choices


def test_a_worker_killed_between_two_requests_is_not_noticed(narrow: RunningServer) -> None:
    killed = narrow.worker()
    killed.kill()
    while killed.status() != psutil.STATUS_ZOMBIE or killed.num_threads() > 1:
        time.sleep(0.01)
    assert narrow.chat(max_tokens=A_WORD).choices
    assert narrow.worker() != killed


def test_a_worker_that_hangs_is_a_504_and_is_replaced(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--stall-s", "4", "--context", "1024") as server:
        hung = server.worker()
        hung.suspend()
        answer = server.post()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "engine_stalled")
        assert server.chat(max_tokens=A_WORD).choices
        assert gone([hung])


def test_a_worker_that_hangs_in_the_middle_of_a_stream_ends_it_with_an_error(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--stall-s", "4", "--context", "1024") as server:
        hung = server.worker()
        with server.streaming(grammar=FOR_EVER, max_tokens=900) as answer:
            events = documents(answer.iter_lines())
            next(events)
            hung.suspend()
            *_, last = events
        assert last["error"]["code"] == "engine_stalled"
        assert server.chat(max_tokens=A_WORD).choices
        assert gone([hung])


def test_a_model_removed_while_it_is_loaded_is_a_404_and_others_go_on(stocked: Path, starter: Path) -> None:
    with serving(stocked, "-m", STARTER, "-m", str(starter), "--context", "1024") as server:
        with server.streaming(grammar=FOR_EVER, max_tokens=60) as answer:
            events = documents(answer.iter_lines())
            next(events)
            command = [str(Path(sys.executable).with_name("filbert")), "rm", STARTER]
            subprocess.run(command, check=True)
            *_, last = events
        assert last["choices"][0]["finish_reason"] == "length"  # who was being answered still is
        assert server.post().status_code == 404
        assert [model.id for model in server.openai.models.list()] == [starter.stem]
        assert server.post(model=starter.stem).status_code == 200


def test_two_servers_share_a_store(stocked: Path) -> None:
    with serving(stocked, "--context", "512") as one, serving(stocked, "--context", "512") as other:
        assert one.url != other.url
        for server in (one, other, one):
            assert server.chat(max_tokens=A_WORD).choices


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_however_the_server_ends_its_workers_end_too(stocked: Path, how: signal.Signals) -> None:
    with serving(stocked, "-m", STARTER, "--context", "1024", "--drain", "1") as server:
        server.openai.embeddings.create(model=STARTER, input="x")
        workers = server.workers()
        assert len(workers) == 2
        with server.streaming(grammar=FOR_EVER, max_tokens=900) as answer:
            next(documents(answer.iter_lines()))
            status = server.end(how)
        assert status == (0 if how == signal.SIGINT else -how)
        assert gone(workers)


def test_a_server_ends_although_a_worker_hangs(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--context", "1024", "--stall-s", "600", "--drain", "1") as server:
        server.openai.embeddings.create(model=STARTER, input="x")
        workers = server.workers()
        for worker in workers:
            worker.suspend()
        with sent(server), sent(server, stream=True), ThreadPoolExecutor(1) as waiting:
            embedding = waiting.submit(server.http.post, "/v1/embeddings", json={"model": STARTER, "input": "y"})
            time.sleep(0.5)
            assert server.end() == -signal.SIGTERM
            assert isinstance(embedding.exception(), httpx.HTTPError) or embedding.result().status_code >= 500
        assert gone(workers)


def test_a_port_in_use_and_a_model_that_is_none_are_told_at_the_start(home: Path, tmp_path: Path) -> None:
    filbert = str(Path(sys.executable).with_name("filbert"))
    (tmp_path / "no.gguf").write_bytes(b"GGUF nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = subprocess.run([filbert, "serve", "--port", port], capture_output=True, text=True, timeout=WAIT_S)
    broken = subprocess.run(
        [filbert, "serve", "--port", "0", "-m", str(tmp_path / "no.gguf")],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert f"Port {port} cannot be used on 127.0.0.1. Address already in use." in refused.stderr
    assert (broken.returncode, broken.stderr.count("\n")) == (6, 1)
