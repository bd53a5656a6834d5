from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.core import paths
from filbert.core.errors import BadInput, DiskFull, StoreBusy, StoreReadOnly
from filbert.core.files import (
    MOST_TEXT_BYTES,
    bytes_of,
    locked,
    need_room,
    read_text,
    safe_name,
    sha256_of,
    size,
    write_whole,
)

HALF_WRITTEN = """
import sys, time
from pathlib import Path
from filbert.core.files import write_whole
with write_whole(Path(sys.argv[1])) as file:
    file.write(b"new" * 1000)
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""

LOCK_HELD = """
import sys, time
from pathlib import Path
from filbert.core.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of ours that has said its first line."""
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_write_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(b"old")
    end(python(HALF_WRITTEN, path))
    assert path.read_bytes() == b"old"
    with write_whole(path) as file:
        file.write(b"newer")
    assert path.read_bytes() == b"newer"


def test_a_write_that_fails_leaves_neither_a_file_nor_a_part(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), write_whole(tmp_path / "new.json") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_write_makes_the_folders_it_needs(tmp_path: Path) -> None:
    with write_whole(tmp_path / "a" / "b" / "c") as file:
        file.write(b"x")
    assert sha256_of(tmp_path / "a" / "b" / "c").startswith("2d711642")


def test_a_lock_held_by_another_process_is_waited_for_only_so_long(tmp_path: Path) -> None:
    lock = tmp_path / "model.lock"
    holder = python(LOCK_HELD, lock)
    try:
        with pytest.raises(StoreBusy, match="Another Filbert process is using model"), locked(lock, wait_s=0.1):
            pass
    finally:
        end(holder)


def test_a_lock_whose_holder_was_killed_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "model.lock"
    end(python(LOCK_HELD, lock))
    with locked(lock, wait_s=5):
        assert lock.exists()


def test_more_room_than_the_disk_has_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"1000000000\.00 GB are needed"):
        need_room(tmp_path / "not" / "yet", 10**18)
    need_room(tmp_path / "not" / "yet", 1)
    assert not list(tmp_path.iterdir())


def test_what_helps_depends_on_whose_folder_it_is(tmp_path: Path) -> None:
    for folder, helps in ((paths.models_folder(), "FILBERT_HOME"), (tmp_path, "write to another disk")):
        with pytest.raises(DiskFull, match=helps):
            need_room(folder, 10**18)


@pytest.mark.root
def test_a_disk_that_fills_up_is_told_and_keeps_the_old_file(small_disk: Path) -> None:
    path = small_disk / "big"
    path.write_bytes(b"old")
    with pytest.raises(DiskFull, match="is full"), write_whole(path) as file:
        file.write(b"\0" * 4_000_000)
    assert path.read_bytes() == b"old"
    assert [file.name for file in small_disk.iterdir()] == ["big"]


def test_a_file_past_a_quota_is_told_to_an_ordinary_user_as_well(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from filbert.core.errors import DiskFull
from filbert.core.files import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with write_whole(Path(sys.argv[1])) as file:
        file.write(b"x" * 2000)
except DiskFull as exc:
    print(exc.code)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "big")], capture_output=True, text=True)
    assert done.stdout.strip() == "disk_full", done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.root
def test_a_read_only_disk_is_told_and_keeps_what_it_has(small_disk: Path) -> None:
    path = small_disk / "kept"
    path.write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreReadOnly, match="Cannot write to"), write_whole(path) as file:
        file.write(b"new")
    with pytest.raises(StoreReadOnly, match="Cannot write to"), locked(small_disk / "model.lock"):
        pass
    assert path.read_bytes() == b"old"


def test_a_text_is_read_whole_or_refused() -> None:
    assert read_text(io.BytesIO("ü".encode()), "it") == "ü"
    assert len(read_text(io.BytesIO(b"a" * MOST_TEXT_BYTES), "it")) == MOST_TEXT_BYTES
    with pytest.raises(BadInput, match="it is more than 16 MiB"), Path("/dev/zero").open("rb") as endless:
        read_text(endless, "it")
    with pytest.raises(BadInput, match=r"it is not UTF-8 text\. Byte 0xe9 at 3"):
        read_text(io.BytesIO(b"caf\xe9"), "it")


@pytest.mark.parametrize(("text", "size_bytes"), [("90MB", 90_000_000), ("1.5 GB", 1_500_000_000), ("60kb", 60_000)])
def test_a_size_is_read_as_it_is_written(text: str, size_bytes: int) -> None:
    assert bytes_of(text) == bytes_of(size(size_bytes)) == size_bytes


@pytest.mark.parametrize("text", ["", "much", "-1MB", "0GB", "1", "1TB", "1e3MB"])
def test_what_is_no_size_is_a_sentence(text: str) -> None:
    with pytest.raises(BadInput, match="is no size"):
        bytes_of(text)


@given(st.text(max_size=30))
def test_a_safe_name_never_leaves_its_folder(text: str) -> None:
    try:
        name = safe_name(text)
    except BadInput:
        return
    assert name == text
    folder = Path("/store/files")
    assert (folder / name).resolve().parent == folder
    assert Path(name).name == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/x", "C:x", ".hidden", "x.", "x ", "a..b", "a\0b", "x\n", "ü", "x" * 201,
     "NUL", "con.gguf", "COM1 .txt", "-flag"],
)  # fmt: skip
def test_names_that_some_system_would_read_otherwise_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is not a plain file name"):
        safe_name(name)


@pytest.mark.parametrize(
    "name", ["SmolLM2-135M-Instruct.Q4_1.gguf", "model-00001-of-00003.gguf", "console.gguf", "a b"]
)
def test_ordinary_names_are_safe(name: str) -> None:
    assert safe_name(name) == name
