"""A store with the real starter, and `filbert` to run on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminal import FILBERT, Run, Terminal, run_filbert


@pytest.fixture(scope="session")
def shelf(test_models: Path) -> Path:
    """A store with the starter in it, pulled once and kept between runs."""
    home = test_models / "shelf"
    done = run_filbert("pull", "smollm2:135m", FILBERT_HOME=str(home))
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def stocked(home: Path, shelf: Path) -> Path:
    """The test's own store, with the starter in it."""
    shutil.copytree(shelf / "models", home / "models", copy_function=link)
    return home


@pytest.fixture
def filbert(home: Path) -> Run:
    return run_filbert


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal(FILBERT, *arguments))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
