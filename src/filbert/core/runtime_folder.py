"""A folder for one child's socket, as long as the child lives."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from filbert.core.files import disk_errors

IN_USE = "in-use"  # locked by its owner: process ids say nothing where containers share a folder
SETTLED_S = 60.0  # between a folder's beginning and its lock there is a moment


class RuntimeFolder:
    """Fresh, of mode 0700, and so near to the root that a socket's path fits (about 100 bytes). What callers that were
    killed while their worker loaded left behind is removed. Raises DiskFull, StoreReadOnly."""

    def __init__(self) -> None:
        place = Path(_place())
        _sweep(place)
        with disk_errors(place):
            self.path = Path(tempfile.mkdtemp(prefix="filbert-run-", dir=place))
            self._lock = FileLock(self.path / IN_USE)
            self._lock.acquire()

    def remove(self) -> None:
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _place() -> str:
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and len(base) < 60 and os.access(base, os.W_OK):
        return base
    folder = tempfile.gettempdir()
    return "/tmp" if os.name == "posix" and len(folder) > 60 else folder


def _sweep(place: Path) -> None:
    for folder in place.glob("filbert-run-*"):
        if _is_ours_and_settled(folder):
            lock = FileLock(folder / IN_USE)
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):  # in use, or another process sweeps as well
                continue
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours_and_settled(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_ours = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return is_ours and stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > SETTLED_S
