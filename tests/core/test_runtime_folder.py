"""Folders for sockets: private, short, and gone once nobody lives in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from filbert.core.errors import DiskFull
from filbert.core.runtime_folder import RuntimeFolder

LEAVE = """
from filbert.core.runtime_folder import RuntimeFolder
import os
print(RuntimeFolder().path, flush=True)
os._exit(0)
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield Path(short)


def aged(folder: Path) -> Path:
    long_ago = time.time() - 3600
    os.utime(folder, (long_ago, long_ago), follow_symlinks=False)
    return folder


def test_it_is_its_owners_alone_and_its_path_is_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("deep" * 30)))
    folder = RuntimeFolder()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(folder.path / "x.sock")) < 100
    folder.remove()
    assert not folder.path.exists()


def test_one_whose_owner_is_dead_is_removed_by_the_next(place: Path) -> None:
    said = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, check=True).stdout
    left = aged(Path(said.strip()))
    assert left.is_dir()
    RuntimeFolder().remove()
    assert not left.exists()


def test_one_that_is_in_use_stays_however_old_and_whatever_its_owners_process_id(place: Path) -> None:
    in_use = RuntimeFolder()
    aged(in_use.path)
    RuntimeFolder().remove()
    assert in_use.path.is_dir()
    in_use.remove()


def test_what_is_not_such_a_folder_stays(place: Path) -> None:
    (place / "kept").mkdir()
    (place / "filbert-run-link").symlink_to(place / "kept")
    (place / "filbert-run-99999999999999999999-x").touch()
    (place / "filbert-models").mkdir()
    before = {aged(path) for path in place.iterdir()}
    RuntimeFolder().remove()
    assert set(place.iterdir()) == before


@pytest.mark.root
def test_no_room_for_one_is_an_error_of_ours(place: Path, monkeypatch: pytest.MonkeyPatch, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=1", str(small_disk)], check=True)
    (place / "full").symlink_to(small_disk)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "full"))
    with pytest.raises(DiskFull):
        RuntimeFolder()
