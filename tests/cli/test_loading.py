"""How commands get their model."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import Run

from filbert.cli.loading import need_agreed
from filbert.core.errors import BadInput, UnknownModel

ARM = "import platform\nplatform.machine = lambda: 'aarch64'\n"
OLD = "from filbert.core import machine\nmachine.has_avx2 = lambda: False\n"
COMMANDS = [
    ("chat", "hi"),
    ("embed", "hi"),
    ("rerank", "hi", "ho"),
    ("score", "hi", "ho"),
    ("perplexity", "--text", "README.md"),
    ("serve", "--port", "0", "--model", "smollm2:135m"),
]


@pytest.fixture(params=[(ARM, "The engine has no wheel for"), (OLD, "has no AVX2")], ids=["ARM", "no AVX2"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every Python from now on believes to be on a machine without an engine; what it says of it."""
    patch, said = request.param
    (tmp_path / "sitecustomize.py").write_text(patch)
    (tmp_path / "README.md").write_text("text")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
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


def test_a_download_that_nobody_can_be_asked_for_is_refused() -> None:
    with pytest.raises(BadInput, match=r"gemma3:1b is not here\. It is .* MB to download\. `filbert pull gemma3:1b`"):
        need_agreed("gemma3:1b")
    with pytest.raises(UnknownModel, match="There is no model gema3:1b"):
        need_agreed("gema3:1b")
