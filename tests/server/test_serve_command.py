"""`filbert serve --background`, `serve status`, `serve stop`, `ps` and `stop`, as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from filbert.engine.lease import running_server
from running_server import STARTER, install

Filbert = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def filbert(home: Path, starter: Path) -> Iterator[Filbert]:
    """The command on a store that holds the starter; a server that it started ends with the test."""
    install(home, starter)
    program = str(Path(sys.executable).with_name("filbert"))
    environment = {**os.environ, "FILBERT_HOME": str(home)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=120)

    yield run
    if running_server():
        run("serve", "stop")


@pytest.mark.slow
def test_a_server_runs_in_the_background_until_it_is_stopped(filbert: Filbert) -> None:
    started = filbert("serve", "--background", "--port", "0", "-m", STARTER, "--context", "512")
    assert started.returncode == 0, started.stderr
    url = started.stdout.strip()
    assert filbert("serve", "status").stdout.strip() == url
    assert httpx.get(f"{url}/models").json()["data"][0]["id"] == STARTER
    again = filbert("serve", "--background")
    assert (again.returncode, "serve stop" in again.stderr) == (2, True)
    assert filbert("serve", "stop").returncode == 0
    assert running_server() is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")
    for words in (("serve", "status"), ("serve", "stop"), ("ps",), ("stop", STARTER)):
        none = filbert(*words)
        assert (none.returncode, "serve --background" in none.stderr) == (2, True)


@pytest.mark.slow
def test_ps_lists_what_is_loaded_and_stop_unloads_it(filbert: Filbert) -> None:
    filbert("serve", "--background", "--port", "0", "-m", STARTER, "--context", "512")
    shown = filbert("ps").stdout
    assert STARTER in shown
    assert "for good" in shown
    (only,) = json.loads(filbert("ps", "--json").stdout)
    assert (only["name"], only["context"], only["in_use"]) == (STARTER, 512, 0)
    assert filbert("stop", STARTER).returncode == 0
    assert json.loads(filbert("ps", "--json").stdout) == []
    unknown = filbert("stop", STARTER)
    assert (unknown.returncode, "holds no" in unknown.stderr) == (2, True)


def test_a_server_that_cannot_start_in_the_background_says_why(filbert: Filbert) -> None:
    wrong = filbert("serve", "--background", "-m", "no-such-model")
    assert wrong.returncode
    assert "no-such-model" in wrong.stderr
