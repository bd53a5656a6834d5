"""Files whole or not at all, locks, room on the disk, and texts of a bounded size."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from filbert.core import paths
from filbert.core.errors import BadInput, DiskFull, StoreBusy, StoreReadOnly

SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMG]?B)", re.IGNORECASE)
MOST_TEXT_BYTES = 16 << 20


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Write `path` in full or leave the old one, through a crash or a power cut."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")  # same folder: a rename cannot cross disks
    with disk_errors(path):
        make_folder(path.parent)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move_whole(part, path)
        finally:
            part.unlink(missing_ok=True)


def move_whole(finished: Path, path: Path) -> None:
    """Give a finished, synced file its final name, and let the rename itself reach the disk."""
    finished.replace(path)
    if os.name == "posix":  # Windows cannot open a folder; its rename is journalled
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say a full or read-only disk in our own words."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"The disk that holds {path.parent} is full.",
                do=_room(path),
            ) from exc
        if exc.errno == errno.EFBIG:
            raise DiskFull(
                f"The disk that holds {path.parent} takes no file of this size.",
                do="Move everything to another one with FILBERT_HOME."
                if paths.is_ours(path)
                else "Choose another one.",
            ) from exc
        if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreReadOnly(f"Cannot write to {path.parent}.", why=f"{exc.strerror}.", do=_own(path)) from exc
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENOTDIR):
            raise StoreReadOnly(
                f"Something else is where {path} belongs.", why=f"{exc.strerror}.", do="Take it away."
            ) from exc
        raise


def make_folder(folder: Path) -> None:
    """Raises StoreReadOnly where there is a file in the way, or no such disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as exc:
        raise StoreReadOnly(f"{folder} cannot be made.", why=f"{exc.strerror}.", do=_own(folder)) from exc


def need_room(folder: Path, size_bytes: int) -> None:
    """Refuse before a long download rather than at its end. Raises DiskFull."""
    free = shutil.disk_usage(nearest_folder(folder)).free
    if free < size_bytes:
        raise DiskFull(
            f"{folder} has {size(free)} free and {size(size_bytes)} are needed.",
            do=_room(folder),
        )


def _room(path: Path) -> str:
    if paths.is_ours(path):
        return "Free some room (`filbert list`, `filbert rm NAME`), or move everything with FILBERT_HOME."
    return "Free some room there, or write to another disk."


def _own(path: Path) -> str:
    return "Point FILBERT_HOME at a folder you own." if paths.is_ours(path) else "Choose a folder that you own."


def read_plain_file(path: Path, most_bytes: int) -> bytes:
    """All of a file that somebody names. Raises BadInput where there is none, where it is a pipe, a device or a folder,
    and for more than `most_bytes`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{path} is no plain file.", do="Name a file.")
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except (OSError, ValueError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else str(exc)) or "no reason is given"
        raise BadInput(f"{path} cannot be read.", why=f"{why}.", do="Check the path.") from exc
    if len(data) > most_bytes:
        raise BadInput(f"{path.name} has more than {size(most_bytes)}.", do="Take a smaller file, or a part of it.")
    return data


def size(size_bytes: float) -> str:
    """Bytes for people, in powers of ten as disks are sold."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= bytes_each:
            return f"{size_bytes / bytes_each:.2f} {unit}" if unit == "GB" else f"{size_bytes / bytes_each:.0f} {unit}"
    return f"{size_bytes:.0f} bytes"


def bytes_of(text: str) -> int:
    """As `size` writes them: 90MB, 1.5 GB. Raises BadInput."""
    match = SIZE.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise BadInput(f"{text!r} is no size.", do="Write it as 90MB or 1.5GB.")
    return int(float(match[1]) * {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}[match[2].lower()])


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


@contextmanager
def locked(path: Path, *, wait_s: float = -1) -> Iterator[None]:
    """Hold the lock `path` against other processes. `wait_s` < 0 waits as long as it takes. Raises StoreBusy."""
    from filelock import FileLock, Timeout  # every command imports this module, and few lock

    with disk_errors(path):
        make_folder(path.parent)
        lock = FileLock(path, timeout=wait_s)
        try:
            lock.acquire()
        except Timeout as exc:
            raise StoreBusy(
                f"Another Filbert process is using {path.with_suffix('').name}.", do="Wait for it, or stop it."
            ) from exc
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Be the only one who writes a file that a person names: its lock lies with ours, not beside it. Raises StoreBusy,
    DiskFull, StoreReadOnly."""
    name = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()[:16]
    with disk_errors(target):
        make_folder(target.parent)
        with locked(paths.locks_folder() / f"{target.name[:80]}-{name}.lock", wait_s=0):
            yield


SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@ -]{0,199}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)  # Windows opens these in any folder


def safe_name(name: str) -> str:
    """`name` when it is a plain file name on every system, else BadInput: names from a hub never become paths."""
    if not SAFE.fullmatch(name) or name.endswith((".", " ")) or ".." in name or DEVICES.fullmatch(name):
        raise BadInput(f"{name!r} is not a plain file name.", do="Rename the file where it comes from.")
    return name


def read_text(file: BinaryIO, name: str) -> str:
    """All of an open file as text. Raises BadInput when it is not UTF-8, or more than 16 MiB: it may have no end."""
    data = file.read(MOST_TEXT_BYTES + 1)
    if len(data) > MOST_TEXT_BYTES:
        raise BadInput(f"{name} is more than {MOST_TEXT_BYTES >> 20} MiB.", do="Give it in parts.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        where = f"Byte {exc.object[exc.start]:#04x} at {exc.start}."
        raise BadInput(f"{name} is not UTF-8 text.", why=where, do="Convert it with iconv.") from exc


def read_text_file(path: Path, name: str) -> str:
    """As `read_text`. Raises BadInput when the file cannot be read, too."""
    try:
        with path.expanduser().open("rb") as file:
            return read_text(file, name)
    except (OSError, RuntimeError) as exc:  # RuntimeError: ~somebody who does not exist
        why = f"{exc.strerror if isinstance(exc, OSError) else exc}."
        raise BadInput(f"{name} cannot be read.", why=why, do="Name a text file.") from exc


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
