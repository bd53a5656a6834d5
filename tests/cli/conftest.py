"""`filbert` to run, in a pipe or on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminal import FILBERT, Run, Terminal, run_filbert


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
