"""What doors print, and where."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from terminal import FILBERT, Run, Terminal

from filbert.cli import console
from filbert.cli.console import patience, without_controls
from filbert.core.files import size
from filbert.core.settings import Settings

WORK = """
import time
from filbert.cli.console import progress
from filbert.core.jobs import Progress
from filbert.core.settings import Settings
with progress(Settings(quiet={quiet})) as watch:
    watch(Progress("looking up"))
    for done in range(0, 101, 50):
        watch(Progress("downloading", done * 1e6, 100e6, "bytes"))
        time.sleep(0.2)
"""


def test_progress_is_lines_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    exec(WORK.format(quiet=False))  # noqa: S102 - our own text, as the terminal gets it below
    assert capfd.readouterr().err.splitlines() == [
        "looking up",
        "downloading: 0 % of 100 MB",
        "downloading: 100 % of 100 MB",
    ]


def test_progress_is_nothing_when_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    exec(WORK.format(quiet=True))  # noqa: S102
    assert capfd.readouterr() == ("", "")


def test_progress_is_a_bar_on_a_terminal() -> None:
    terminal = Terminal("env", "TERM=xterm", "COLUMNS=100", sys.executable, "-c", WORK.format(quiet=False))
    assert terminal.wait() == 0
    assert "━" in terminal.seen and "50 % of 100 MB" in terminal.seen
    assert "looking up" in terminal.seen and "looking up" not in terminal.seen.partition("50 % of")[2]
    terminal.close()


@pytest.mark.slow
def test_a_first_pull_shows_its_progress_in_lines(filbert: Run) -> None:
    done = filbert("pull", "smollm2:135m")
    assert "downloading: 100 % of" in done.stderr
    assert done.stdout.strip().endswith("SmolLM2-135M-Instruct.Q4_1.gguf")


def test_what_takes_long_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert console.PATIENCE_S == 2
    with patience("being quick", Settings()):
        pass
    monkeypatch.setattr(console, "PATIENCE_S", 0.1)
    with patience("counting sheep", Settings()):
        time.sleep(0.5)
    with patience("being discreet", Settings(quiet=True)):
        time.sleep(0.5)
    assert capfd.readouterr().err == "counting sheep …\n"


def test_waiting_for_standard_input_is_told() -> None:
    waiting = subprocess.Popen([FILBERT, "embed"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stdin and waiting.stderr
    assert waiting.stderr.readline().decode() == "reading standard input …\n"
    _, said = waiting.communicate(b"")
    assert said.decode().startswith("error: There is nothing to embed.")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_model_cannot_drive_the_terminal() -> None:
    nasty = "a\x1b]0;owned\x07b\x9b2Jc\td\n"
    assert without_controls(nasty, Screen()) == "a\ufffd]0;owned\ufffdb\ufffd2Jc\td\n"
    assert without_controls(nasty, io.StringIO()) == nasty


@pytest.mark.parametrize(
    ("size_bytes", "said"), [(12, "12 bytes"), (98_362_432, "98 MB"), (4_700_000_000, "4.70 GB"), (1500, "2 kB")]
)
def test_sizes_are_for_people(size_bytes: int, said: str) -> None:
    assert size(size_bytes) == said


def test_a_bar_is_gone_when_the_work_is_done(terminal: Callable[..., Terminal]) -> None:
    pulling = terminal("pull", "--offline", "hf:owner/repo:Q4_0")
    assert pulling.wait() == 3
    assert "error: hf:owner/repo:Q4_0 is not on this machine." in pulling.seen
