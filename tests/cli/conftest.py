"""`filbert` to run, in a pipe or on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator import Screen
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


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    opened: list[Screen] = []

    def open_screen(*arguments: str, **options: Any) -> Screen:
        opened.append(Screen(FILBERT, *arguments, **options))
        return opened[-1]

    yield open_screen
    for each in opened:
        each.close()
