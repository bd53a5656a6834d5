"""The house stays as it is told: each room lists its files, and no file grows out of sight."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src/filbert"
ROOMS = sorted(file.parent for file in SOURCE.glob("*/**/__init__.py"))
MAX_LINES = 500


def room_name(room: Path) -> str:
    return str(room.relative_to(SOURCE))


def contents(room: Path) -> list[str]:
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
    return re.findall(r"^([\w.]+\.\w+|\w+/) {2,}\S", docstring, re.MULTILINE)


@pytest.mark.parametrize("room", ROOMS, ids=room_name)
def test_a_room_lists_exactly_its_files(room: Path) -> None:
    files = {path.name for path in room.glob("*.*") if path.name != "__init__.py"}
    folders = {f"{path.name}/" for path in room.iterdir() if (path / "__init__.py").exists()}
    assert contents(room) == sorted(files | folders)


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_file_is_too_long_to_read(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_file_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text("utf-8")))


def test_every_room_is_on_a_floor() -> None:
    contract = (SOURCE.parent.parent / "pyproject.toml").read_text("utf-8").partition("layers = [")[2].partition("]")[0]
    floors = re.findall(r"filbert\.(\w+)", contract)
    assert sorted(floors) == sorted(room_name(room) for room in ROOMS if room.parent == SOURCE)


def test_no_two_files_of_tests_share_a_name() -> None:
    """pytest would take the second for the first, and collect neither."""
    tests = [file for file in Path(__file__).parent.rglob("test_*.py") if "clients" not in file.parts]
    assert [name for name, n in Counter(file.name for file in tests).items() if n > 1] == []
