"""How commands get their model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Run, Terminal

from filbert.cli.loading import present
from filbert.core.errors import UnknownModel
from filbert.core.settings import Settings

Open = Callable[..., Terminal]

ARM = "import platform\nplatform.machine = lambda: 'aarch64'\n"
OLD = "from filbert.core import machine\nmachine.has_avx2 = lambda: False\n"
COMMANDS = [
    ("chat", "hi"),
    ("embed", "hi"),
    ("rerank", "hi", "ho"),
    ("score", "hi", "ho"),
    ("perplexity", "--text", "README.md"),
    ("fidelity", "smollm2:135m", "--base", "smollm2:135m", "--text", "README.md"),
    ("bench", "smollm2:135m"),
    ("serve", "--port", "0", "--model", "smollm2:135m"),
]


@pytest.fixture(params=[(ARM, "The engine has no wheel for"), (OLD, "has no AVX2")], ids=["ARM", "no AVX2"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every Python from now on believes to be on a machine without an engine; what it says of it."""
    patch, said = request.param
    (tmp_path / "sitecustomize.py").write_text(patch)
    (tmp_path / "README.md").write_text("text")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("FILBERT_OFFLINE", "1")  # whoever pulls is told so instead
    monkeypatch.chdir(tmp_path)
    return str(said)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_an_engine_nothing_is_pulled(filbert: Run, elsewhere: str, command: tuple[str, ...]) -> None:
    done = filbert(*command)
    assert done.returncode == 7
    assert elsewhere in done.stderr
    assert "`filbert pull smollm2:135m` fetches the model all the same." in done.stderr


def test_without_an_engine_pull_still_pulls(filbert: Run, elsewhere: str) -> None:
    done = filbert("pull", "smollm2:135m")
    assert done.returncode == 3
    assert elsewhere not in done.stderr


@pytest.mark.usefixtures("stocked")
def test_without_an_engine_a_model_that_is_here_is_not_loaded(filbert: Run, elsewhere: str) -> None:
    done = filbert("chat", "hi")
    assert done.returncode == 7
    assert elsewhere in done.stderr
    assert not done.stdout


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be fetched."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.mark.usefixtures("no_network")
def test_a_large_download_is_told_and_needs_a_yes(terminal: Open) -> None:
    for typed, said in (("\n", "Nothing was downloaded."), ("perhaps\n", "Nothing was downloaded."), ("y\n", "hub at")):
        opened = terminal("run", "qwen3:4b-q4_k_m", "hi")
        opened.wait_for("qwen3:4b-q4_k_m is not here. Download about 2.44 GB? [y/N]: ")
        opened.type(typed)
        opened.wait_for(said)


@pytest.mark.usefixtures("no_network")
def test_a_small_download_is_told_and_not_asked_for(terminal: Open) -> None:
    opened = terminal("score", "-m", "smollm2:135m-q4_1", "hi", "ho")
    opened.wait_for("smollm2:135m-q4_1 is not here: 98 MB to download.")
    assert opened.wait() == 4


@pytest.mark.usefixtures("no_network")
def test_where_nobody_can_be_asked_a_model_is_pulled_as_pull_does(filbert: Run) -> None:
    done = filbert("run", "qwen3:4b-q4_k_m", "hi")
    assert done.returncode == 4 and "[y/N]" not in done.stderr


def test_a_mistyped_name_is_no_download() -> None:
    with pytest.raises(UnknownModel, match="There is no model gema3:1b"):
        present("gema3:1b", Settings())
