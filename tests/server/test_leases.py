"""One worker for the server, the CLI and Python, over the private socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import filbert
import make_tiny
from filbert.core.errors import BadSetting, EngineCrashed
from filbert.engine.children import Children
from filbert.engine.lease import Leased, ask_server, running_server, server_file
from running import until
from running_server import FOR_EVER, STARTER, RunningServer, gone, install, serving

USER = {"role": "user", "content": "Say hi."}


@pytest.fixture(scope="module")
def shared(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("shared")
    install(home, starter)
    with serving(home, "-m", STARTER, "--context", "1024") as running:
        yield running


@pytest.fixture
def served(shared: RunningServer, monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    """A server of the store that this test has, too; for those that leave it as they found it."""
    monkeypatch.setenv("FILBERT_HOME", str(shared.home))
    return shared


@pytest.fixture
def served_alone(stocked: Path) -> Iterator[RunningServer]:
    """A server of this test's own store, for what changes it."""
    with serving(stocked, "-m", STARTER, "--context", "1024") as running:
        yield running


def held() -> list[dict[str, object]]:
    told = ask_server({"do": "ps"})
    assert told
    return list(told["models"])


def test_python_uses_the_worker_of_the_server(served: RunningServer) -> None:
    worker = served.worker().pid
    with filbert.load(STARTER) as model:
        assert isinstance(model.children, Leased)
        assert model.context == 1024
        assert "by the running server" in model.summary
        reply = model.generate("Say hi.", max_tokens=4).reply()
        assert reply.usage.completion_tokens == 4
        assert held()[0]["in_use"] == 1
    assert until(lambda: held()[0]["in_use"] == 0)
    assert [served.worker().pid, psutil.Process().children()] == [worker, psutil.Process().children()]


@pytest.mark.slow
def test_the_command_line_uses_it_unless_told_not_to(served_alone: RunningServer) -> None:
    command = [str(Path(sys.executable).with_name("filbert")), "chat", "-m", STARTER, "--max-tokens", "4", "Say hi."]
    shared = subprocess.run(command, capture_output=True, text=True, check=True)
    alone = subprocess.run([*command, "--no-server"], capture_output=True, text=True, check=True)
    assert "by the running server" in shared.stderr
    assert "by the running server" not in alone.stderr
    assert shared.stdout.strip() and alone.stdout.strip()


def test_other_load_options_are_a_worker_of_the_servers_own(served_alone: RunningServer) -> None:
    with filbert.load(STARTER, context=512) as model:
        assert model.context == 512
        assert sorted(each["context"] for each in held()) == [512, 1024]  # type: ignore[type-var]
        assert model.generate("Say hi.", max_tokens=2).reply().usage.completion_tokens
    with pytest.raises(BadSetting, match="threads"):
        filbert.load(STARTER, threads=0)


def test_the_context_is_shared_with_the_servers_own_requests(home: Path, tmp_path: Path) -> None:
    """Together 16 ask three times the context, and there is a slot for each; none fails."""
    install(home, make_tiny.dense(tmp_path / "tiny.gguf"), STARTER, "a" * 64)
    wish: Any = {"grammar": FOR_EVER, "max_tokens": 360}
    with (
        serving(home, "-m", STARTER, "--context", "2048", "--parallel", "16") as server,
        filbert.load(STARTER) as model,
        ThreadPoolExecutor(16) as threads,
    ):
        assert isinstance(model.children, Leased)
        ours = [threads.submit(lambda: model.generate("Count.", **wish).reply()) for _ in range(8)]
        theirs = [threads.submit(server.chat, "Count.", extra_body=wish) for _ in range(8)]
        told = [(each.result().finish.reason, each.result().usage.completion_tokens) for each in ours]
        told += [(each.result().choices[0].finish_reason, each.result().usage.completion_tokens) for each in theirs]
    assert told == [("length", 360)] * 16


def test_a_client_that_is_killed_gives_back_what_it_had(served: RunningServer) -> None:
    code = (
        f"import filbert\nmodel = filbert.load({STARTER!r})\n"
        "answer = iter(model.generate('Count to a million.', max_tokens=900))\nnext(answer)\nprint('begun', flush=True)\n"
        "import time; time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline() == "begun\n"
        client.send_signal(signal.SIGKILL)
    assert served.chat(max_tokens=900).choices[0].finish_reason in ("stop", "length")
    assert until(lambda: held()[0]["in_use"] == 0)


def test_a_worker_that_dies_is_replaced_for_clients_too(served: RunningServer) -> None:
    with filbert.load(STARTER) as model:
        answer = iter(model.generate("Count to a million.", max_tokens=900))
        next(answer)
        worker = served.worker()
        worker.kill()
        with pytest.raises(EngineCrashed):
            list(answer)
        assert gone([worker])  # its connections end a moment before it does
        assert model.generate("Say hi.", max_tokens=2).reply().usage.completion_tokens


def test_when_the_server_ends_the_model_is_loaded_here(served_alone: RunningServer) -> None:
    with filbert.load(STARTER) as model:
        assert model.generate("Say hi.", max_tokens=2).text
        served_alone.end()
        assert not server_file().exists()
        assert until(lambda: isinstance(model.children, Leased) and not model.children._lease.open)
        assert model.generate("Say hi.", max_tokens=2).text


def test_a_server_that_was_killed_is_no_server(served_alone: RunningServer) -> None:
    workers = served_alone.workers()
    served_alone.end(signal.SIGKILL)
    assert gone(workers)
    assert server_file().exists()
    assert running_server() is None
    with filbert.load(STARTER) as model:
        assert isinstance(model.children, Children)


def test_vectors_and_scores_work_over_a_lease(served: RunningServer) -> None:
    with filbert.load(STARTER) as model:
        (vector,) = model.embed(["a text"]).vectors
        assert len(vector) == 576
        assert model.score("The sky is", [" blue"])[0].loglikelihood
        assert any(part == "scorer" for part in held()[0]["parts"])  # type: ignore[attr-defined]
    assert until(lambda: "scorer" not in held()[0]["parts"])  # type: ignore[operator]


@pytest.mark.slow
def test_of_two_servers_of_a_store_the_first_shares(served: RunningServer) -> None:
    before = json.loads(server_file().read_text())
    with serving(served.home) as second:
        assert second.post().status_code == 200
        assert json.loads(server_file().read_text()) == before
    assert running_server() == before


def test_the_private_socket_stands_what_is_no_client(served: RunningServer) -> None:
    import socket

    said = running_server()
    assert said
    for garbage in (
        b"",
        b"\n",
        b"no json\n",
        b"[1]\n",
        b'{"do": "what"}\n',
        b'{"lease": "nothing", "load": {}}\n',
        b"x" * (2 << 20),
    ):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(said["socket"])
            try:
                stranger.sendall(garbage)
                stranger.shutdown(socket.SHUT_WR)
                stranger.recv(1 << 16)
            except OSError:
                pass
    assert served.chat().choices


def test_whoever_asks_what_nobody_knows_is_not_left_waiting(served: RunningServer) -> None:
    with filbert.load(STARTER) as model, pytest.raises(EngineCrashed):
        model.children.socket("hearing")  # type: ignore[arg-type]
    assert served.chat().choices


@pytest.mark.slow
def test_threads_of_one_client_share_its_connection(served: RunningServer) -> None:
    with filbert.load(STARTER) as model:
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(model.generate("Hi.", max_tokens=8).text)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
