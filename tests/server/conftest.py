"""The servers that tests of this room share; those that get hurt start their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from described import TINY

import make_tiny
from running_server import STARTER, RunningServer, install, serving, unharmed

THINKER = Path(__file__).parent.parent / "data" / "thinking.jinja"


@pytest.fixture(scope="session")
def server(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Four answers at once in 4096 tokens."""
    home = tmp_path_factory.mktemp("served")
    install(home, starter)
    with serving(home, "-m", STARTER, "--context", "4096") as running:
        yield running


@pytest.fixture
def unhurt(server: RunningServer) -> Iterator[RunningServer]:
    """That server for a test that tries to hurt it: it is afterwards as it was before."""
    workers = len(server.workers())
    yield server
    assert unharmed(server, workers=workers)


@pytest.fixture(scope="module")
def narrow(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One answer at a time: whoever is not let go keeps all others waiting."""
    home = tmp_path_factory.mktemp("narrow")
    install(home, starter)
    with serving(home, "-m", STARTER, "--context", "8192", "--parallel", "1") as running:
        yield running


@pytest.fixture
def stocked(home: Path, starter: Path) -> Path:
    """A store of this test's own that holds the starter."""
    install(home, starter)
    return home


@pytest.fixture
def served_alone(stocked: Path) -> Iterator[RunningServer]:
    """A server of this test's own store, for what changes it."""
    with serving(stocked, "--context", "1024") as running:
        yield running


@pytest.fixture(scope="session")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A tiny random model with a template that knows thought."""
    folder = tmp_path_factory.mktemp("thinker")
    path = make_tiny.dense(folder / "thinker.gguf", template=THINKER.read_text("utf-8"))
    with serving(folder / "home", "-m", str(path), "--context", "512") as running:
        yield running


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A tiny random model under the starter's name, in a store that may be changed; what is asked of the net fails."""
    folder = tmp_path_factory.mktemp("quick")
    path = make_tiny.dense(folder / "tiny.gguf", template=THINKER.read_text("utf-8"))
    install(folder / "home", path, TINY, hashlib.sha256(path.read_bytes()).hexdigest())
    nowhere = "http://127.0.0.1:9"
    with serving(
        folder / "home", "-m", TINY, "--context", "2048", HF_ENDPOINT=nowhere, PIP_INDEX_URL=nowhere
    ) as running:
        yield running


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A tiny random model that sees."""
    folder = tmp_path_factory.mktemp("eyes")
    path, _ = make_tiny.vision(folder / "eyes.gguf", folder / "mmproj-eyes.gguf")
    with serving(folder / "home", "-m", str(path), "--context", "512") as running:
        yield running
