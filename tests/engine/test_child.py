from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from filbert.core.errors import EngineCrashed, EngineStalled
from filbert.engine import child as child_module
from filbert.engine.child import Child
from running import gone, until

LOADS = """
import sys, os, subprocess, time
import filbert
model = filbert.load(sys.argv[1], context=256)
model.generate("hi", max_tokens=1).reply()
"""
TELLS = """
print(model.children.workers["text"].pid, flush=True)
"""


@contextmanager
def caller(tiny: Path, then: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program of somebody who uses us, and the process of its worker."""
    command = [sys.executable, "-c", LOADS + TELLS + then, str(tiny / "dense.gguf")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "then", ["", "raise ZeroDivisionError", "sys.exit(3)", "model.close()"], ids=["end", "exception", "exit", "close"]
)
def test_the_worker_ends_with_its_caller(tiny: Path, then: str) -> None:
    with caller(tiny, then) as (process, worker):
        process.communicate(timeout=60)
        assert until(lambda: gone(worker))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda sent: sent.name)
def test_the_worker_ends_when_its_caller_is_killed(tiny: Path, sent: signal.Signals) -> None:
    with caller(tiny, "time.sleep(60)") as (process, worker):
        folder = Path(_socket_folder(worker))
        process.send_signal(sent)
        process.wait(60)
        assert until(lambda: gone(worker))
        assert until(lambda: not folder.exists())


def _socket_folder(worker: int) -> str:
    (address,) = {link.laddr for link in psutil.Process(worker).net_connections("unix") if "filbert-" in link.laddr}
    return os.path.dirname(address)  # noqa: PTH120


def test_the_worker_ends_when_its_caller_is_killed_though_another_child_holds_the_pipe(tiny: Path) -> None:
    fork = "pid = os.fork()\nif pid == 0:\n    time.sleep(60)\nprint(pid, flush=True)\ntime.sleep(60)"
    with caller(tiny, fork) as (process, worker):
        assert process.stdout is not None
        other = int(process.stdout.readline())
        process.kill()
        process.wait(60)
        try:
            assert until(lambda: gone(worker))
            assert not gone(other)
        finally:
            os.kill(other, signal.SIGKILL)


def test_ctrl_c_in_the_terminal_does_not_reach_the_worker(tiny: Path) -> None:
    with caller(tiny, "time.sleep(60)") as (process, worker):
        assert os.getsid(worker) != os.getsid(process.pid)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A child's script of our own, beside which `Child` looks for it."""
    monkeypatch.setattr(child_module, "__file__", str(tmp_path / "child.py"))
    yield tmp_path / "worker_main.py"


def start(script: Path, text: str) -> Child:
    script.write_text(text)
    return Child(script.name, {"threads": 1, "openmp": "bundled"})


def test_a_child_that_fails_is_told_with_its_last_words(script: Path) -> None:
    child = start(script, "import sys\nprint('CUDA error: out of memory', file=sys.stderr)\nsys.exit(7)")
    with pytest.raises(EngineCrashed, match=r"exit status 7.*CUDA error: out of memory"):
        child.hear(60)
    with pytest.raises(EngineCrashed):  # whoever asks next hears the same
        child.hear(60)
    assert child.complaint == "CUDA error: out of memory."


def test_a_child_killed_in_the_middle_of_a_line_is_a_crash_not_a_wait_for_ever(script: Path) -> None:
    child = start(script, "import os\nos.write(1, b'{\"half\": ')\nos.kill(os.getpid(), 9)")
    with pytest.raises(EngineCrashed, match="SIGKILL"):
        child.hear(60)


def test_a_child_that_says_nothing_is_stalled(script: Path) -> None:
    child = start(script, "import time\ntime.sleep(60)")
    with pytest.raises(EngineStalled, match="did not answer"):
        child.hear(0.1)
    child.kill()
    child.stop()
    assert not child.running


def test_a_child_that_will_not_end_is_killed(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_S", 0.2)
    child = start(script, "import time\nprint('{\"ready\": 1}', flush=True)\ntime.sleep(60)")
    assert child.hear(60) == {"ready": 1}
    child.stop()
    assert not child.running


def test_telling_a_child_that_is_gone_is_a_crash(script: Path) -> None:
    child = start(script, "import sys\nsys.exit(3)")
    with pytest.raises(EngineCrashed, match="exit status 3"):
        for _ in range(1000):
            child.tell({"long": "x" * 1000}, 60)


def test_a_child_that_reads_nothing_of_a_long_text_ends_at_the_deadline(script: Path) -> None:
    child = start(script, "import time\ntime.sleep(60)")
    with pytest.raises(EngineStalled, match="did not answer within 1 s"):
        child.tell({"long": "x" * 1_000_000}, 1)
    assert until(lambda: not child.running)
