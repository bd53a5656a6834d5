"""Models to talk to: the real starter, and one that talks nonsense quickly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import filbert
import make_tiny
from running import lasting


@pytest.fixture(scope="session")
def starter_model(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[filbert.Model]:
    with lasting(starter, tmp_path_factory.mktemp("home"), context=1024) as model:
        yield model


@pytest.fixture
def babbler(tmp_path: Path) -> Iterator[Callable[..., filbert.Model]]:
    """A tiny model of so much context, closed when the test is over."""
    loaded: list[filbert.Model] = []

    def load(context: int = 256, **options: Any) -> filbert.Model:
        loaded.append(filbert.load(str(make_tiny.dense(tmp_path / "babbler.gguf")), context=context, **options))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()
