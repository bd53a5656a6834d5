"""What happens to a server, done to it: clients that leave, workers that die or hang, models that go."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

import make_tiny
from filbert.server import scopes
from filbert.server.connections import UNREAD_BYTES
from running import until
from running_server import (
    FOR_AGES,
    FOR_EVER,
    STARTER,
    WAIT_S,
    RunningServer,
    documents,
    gone,
    install,
    request,
    sample,
    sent,
    serving,
    unharmed,
)


def test_a_client_that_leaves_in_the_middle_of_its_stream_makes_room(narrow: RunningServer) -> None:
    with narrow.streaming(**FOR_AGES) as answer:
        events = documents(answer.iter_lines())
        assert [next(events)["object"] for _ in range(3)] == ["chat.completion.chunk"] * 3
    assert unharmed(narrow)


@pytest.mark.parametrize("how", ["reset", "half-closed"])
def test_a_client_whose_connection_breaks_makes_room(narrow: RunningServer, how: str) -> None:
    """Who says that nothing more comes is as good as gone: programs that end look just like that."""
    with sent(narrow, stream=True) as connection:
        assert connection.recv(1)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        assert unharmed(narrow)


@pytest.mark.slow
def test_a_client_that_leaves_before_the_first_token_makes_room(narrow: RunningServer) -> None:
    with sent(narrow, "word " * 4000, stream=True, max_tokens=3000) as connection, pytest.raises(TimeoutError):
        connection.settimeout(0.5)  # the prompt takes longer than that
        connection.recv(1)
    assert unharmed(narrow)


def test_a_client_that_leaves_without_having_asked_for_a_stream_makes_room(narrow: RunningServer) -> None:
    with sent(narrow) as connection, pytest.raises(TimeoutError):
        connection.settimeout(0.5)
        connection.recv(1)
    assert unharmed(narrow)


def test_a_client_that_leaves_the_queue_makes_room(narrow: RunningServer) -> None:
    with narrow.streaming(**FOR_AGES) as answer:
        next(documents(answer.iter_lines()))
        with sent(narrow), sent(narrow, stream=True):
            pass
    assert unharmed(narrow)


@pytest.mark.slow
def test_a_reader_that_is_slow_gets_its_whole_answer(tmp_path: Path) -> None:
    with serving(talkative(tmp_path), *ONE_AT_A_TIME) as server:
        with unread(server) as connection:
            time.sleep(3)
            assert sample(server, "filbert_running") == 1  # it writes no more than the connection holds
            received = b""
            while b"data: [DONE]" not in received[-100:]:
                piece = connection.recv(1 << 16)
                assert piece, "the stream was cut"
                received += piece
        assert len(received) > 3 * UNREAD_BYTES
        events = list(documents(iter(received.decode().splitlines())))
        assert (
            "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == "x" * MUCH["max_tokens"]
        )
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert unharmed(server)


def test_a_reader_that_takes_nothing_of_its_answer_makes_room(tmp_path: Path) -> None:
    hasty = "from filbert.server.connections import BoundedConnection; BoundedConnection.unread_s = 1"
    program = (sys.executable, "-c", f"{hasty}; from filbert.cli.main import main; main()")
    with serving(talkative(tmp_path), *ONE_AT_A_TIME, program=program) as server, unread(server) as connection:
        assert unharmed(server)
        assert b"data: [DONE]" not in b"".join(iter(lambda: connection.recv(1 << 16), b""))


ONE_AT_A_TIME = ("-m", STARTER, "--context", "2048", "--parallel", "1")
MUCH = {"grammar": FOR_EVER, "max_tokens": 600, "logprobs": True, "top_logprobs": 20}  # a megabyte


def talkative(folder: Path) -> Path:
    """A store with a tiny model under the starter's name, which writes hundreds of tokens a second."""
    install(folder / "home", make_tiny.dense(folder / "tiny.gguf"), STARTER, "a" * 64)
    return folder / "home"


def unread(server: RunningServer) -> socket.socket:
    """An answer far larger than the kernel keeps of it, on a connection of which nothing was read."""
    connection = socket.socket()
    connection.settimeout(WAIT_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(request(**MUCH, stream=True))
    return connection


def test_a_worker_killed_in_the_middle_of_a_stream_ends_it_with_an_error(narrow: RunningServer) -> None:
    killed = narrow.worker()
    with narrow.streaming(**FOR_AGES) as answer:
        events = documents(answer.iter_lines())
        next(events)
        killed.kill()
        *_, last = events
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "engine_crashed")
    assert unharmed(narrow)
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
    assert unharmed(narrow)


def test_a_worker_killed_between_two_requests_is_not_noticed(narrow: RunningServer) -> None:
    killed = narrow.worker()
    killed.kill()
    while killed.status() != psutil.STATUS_ZOMBIE or killed.num_threads() > 1:
        time.sleep(0.01)
    assert unharmed(narrow)
    assert narrow.worker() != killed


@pytest.mark.slow
def test_a_worker_that_hangs_is_a_504_and_is_replaced(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--stall-s", "4", "--context", "1024") as server:
        hung = server.worker()
        hung.suspend()
        answer = server.post()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "engine_stalled")
        assert unharmed(server)
        assert gone([hung])


@pytest.mark.slow
def test_a_worker_that_hangs_in_the_middle_of_a_stream_ends_it_with_an_error(stocked: Path) -> None:
    with serving(stocked, "-m", STARTER, "--stall-s", "4", "--context", "1024") as server:
        hung = server.worker()
        with server.streaming(grammar=FOR_EVER, max_tokens=900) as answer:
            events = documents(answer.iter_lines())
            next(events)
            hung.suspend()
            *_, last = events
        assert last["error"]["code"] == "engine_stalled"
        assert unharmed(server)
        assert gone([hung])


@pytest.mark.slow
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
        assert until(lambda: len(server.workers()) == 1)  # the other is not kept in memory
        assert unharmed(server, [starter.stem])


@pytest.mark.slow
def test_a_file_deleted_while_its_model_is_loaded_harms_no_answer_and_no_other_model(
    stocked: Path, starter: Path
) -> None:
    with serving(stocked, "-m", STARTER, "-m", str(starter), "--context", "1024") as server:
        with server.streaming(grammar=FOR_EVER, max_tokens=60) as answer:
            events = documents(answer.iter_lines())
            next(events)
            (file,) = (stocked / "models" / "files").rglob("*.gguf")
            file.unlink()
            *_, last = events
        assert last["choices"][0]["finish_reason"] == "length"
        gone_now = server.post()
        assert (gone_now.status_code, gone_now.json()["error"]["code"]) == (422, "bad_model_file")
        assert str(stocked) not in gone_now.text and file.name not in gone_now.text
        assert until(lambda: len(server.workers()) == 1)  # the other is not kept in memory
        assert unharmed(server, [starter.stem])


@pytest.mark.slow
def test_no_answer_names_a_file_or_what_a_child_was_told(stocked: Path, tmp_path: Path) -> None:
    """Whatever goes wrong: no such model, files that are none, that the engine refuses or dies of, crashes."""
    broken = {"none": tmp_path / "none.gguf"}
    broken["none"].write_bytes(b"GGUF nothing" * 100)
    for make in (make_tiny.aborting, make_tiny.refused):
        broken[make.__name__] = make(tmp_path / f"{make.__name__}.gguf")
    for number, (name, file) in enumerate(broken.items()):
        install(stocked, file, f"{name}:1b", f"{number:064x}")
    everything = {
        "messages": [{"role": "user", "content": "x"}],
        "prompt": "x",
        "input": "x",
        "query": "x",
        "tokens": [1],
    }
    everything |= {"documents": ["x"], "max_tokens": 900, "grammar": FOR_EVER, "stream": False}
    with serving(stocked, "--context", "1024", "--stall-s", "20") as server:

        def told(path: str, model: str) -> int:
            kept_prompt = {"prompt": None} if path == "/v1/responses" else {}  # one that the server would hold
            answer = server.http.post(path, json={**everything, "model": model, **kept_prompt})
            for word in (str(stocked), str(tmp_path), ".gguf", "worker", "_main", "site-packages", "Traceback", "sock"):
                assert word not in answer.text, (path, model, answer.text)
            return answer.status_code

        asking = sorted(route.split()[1] for route in scopes.INFER if route.startswith("POST") and "{" not in route)
        assert {path: told(path, "nothing") for path in asking} == dict.fromkeys(asking, 404)
        of_each_protocol = ("/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/embeddings")
        for name in broken:
            assert {told(path, f"{name}:1b") for path in of_each_protocol} == {422}
        assert told("/api/show", "none:1b") == 422
        for path in ("/v1/chat/completions", "/v1/messages"):
            assert server.post(max_tokens=1).status_code == 200
            with ThreadPoolExecutor(1) as thread:
                asked = thread.submit(told, path, STARTER)
                assert until(lambda: f'filbert_running{{model="{STARTER}"}} 1.0' in server.http.get("/metrics").text)
                server.worker().kill()
                assert asked.result() == 500
        assert unharmed(server, [STARTER, *(f"{name}:1b" for name in broken)])


@pytest.mark.slow
def test_models_take_no_more_memory_than_they_may(home: Path, tmp_path: Path) -> None:
    """There is room for one, so that the other makes it; and then for none."""
    for seed, name in enumerate(names := ("one:1m", "two:1m")):
        install(home, make_tiny.dense(tmp_path / f"{seed}.gguf", seed=seed), name, f"{seed:064x}")
    with serving(home, "--context", "512", "--memory-gb", "0.06") as server:
        for name in (*names, *names):
            assert server.post(model=name).status_code == 200
            assert [each["name"] for each in server.http.get("/api/ps").json()["models"]] == [name]
            assert len(server.workers()) == 1
    with serving(home, "--context", "512", "--memory-gb", "0.001") as server:
        refused = server.post(model=name)
        assert refused.status_code == 400 and "GB are free" in refused.json()["error"]["message"]
        assert server.http.get("/api/ps").json()["models"] == server.workers() == []


@pytest.mark.slow
def test_two_servers_share_a_store(stocked: Path) -> None:
    with serving(stocked, "--context", "512") as one, serving(stocked, "--context", "512") as other:
        assert one.url != other.url
        for server in (one, other, one):
            assert unharmed(server)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
