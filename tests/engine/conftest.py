"""Models that the tests of this room run: the real starter, and tiny ones of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import filbert
import make_tiny
from running import lasting


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random-weight model of every kind: `tiny / "dense.gguf"`."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny.write_all(folder)
    return folder


@pytest.fixture(scope="session")
def model(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[filbert.Model]:
    """The starter, loaded once for all tests that leave its worker as they found it."""
    with lasting(starter, tmp_path_factory.mktemp("home"), context=2048) as model:
        yield model


@pytest.fixture(scope="session")
def tiny_model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[filbert.Model]:
    """A model that talks nonsense, thousands of tokens a second."""
    with lasting(tiny / "dense.gguf", tmp_path_factory.mktemp("home"), context=2048) as model:
        yield model


@pytest.fixture
def load(tiny: Path) -> Iterator[Callable[..., filbert.Model]]:
    """Load a tiny model by its name, closed when the test is over."""
    loaded: list[filbert.Model] = []

    def by_name(name: str, **options: Any) -> filbert.Model:
        loaded.append(filbert.load(str(tiny / f"{name}.gguf"), **{"context": 512, **options}))
        return loaded[-1]

    yield by_name
    for model in loaded:
        model.close()
