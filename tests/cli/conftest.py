"""`filbert` to run, in a pipe or on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator import Screen
from terminal import FILBERT, Run, Terminal, run_filbert

from filbert.core import machine
from filbert.core.machine import engine_build
from filbert.models import speed
from filbert.models.speed import Attention, Calibration, Rate


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


@pytest.fixture
def measured(home: Path) -> Calibration:
    """This machine, as if it had been measured."""
    found = Calibration(
        processor=machine.processor(),
        engine=engine_build(),
        threads=machine.cores(),
        measured="2026-01-01T00:00:00+00:00",
        busy_cores=0,
        rates={"Q4_K": Rate(cached=40, memory=40, prompt=10)},
        misses=((1e6, 0.0),),
        attention={"f16": Attention(token=100, kept=0, prompt=10)},
        tensor=1e-6,
        token=1e-4,
        entry=1e-9,
        activation=1e-9,
    )
    speed.keep(found)
    return found
