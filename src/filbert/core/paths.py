"""Where Filbert keeps things. FILBERT_HOME moves all of it; without it the platform's own folders are used."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import platformdirs
import psutil


def home() -> Path | None:
    value = os.environ.get("FILBERT_HOME", "")
    return Path(value).expanduser().absolute() if value else None


def data_folder() -> Path:
    """Models, jobs and measurements: what is worth keeping."""
    return home() or platformdirs.user_data_path("filbert", appauthor=False)


def config_file() -> Path:
    return (home() or platformdirs.user_config_path("filbert", appauthor=False)) / "config.toml"


def log_file() -> Path:
    folder = home()
    return (folder / "log" if folder else platformdirs.user_log_path("filbert", appauthor=False)) / "filbert.log"


def models_folder() -> Path:
    return data_folder() / "models"


def jobs_folder() -> Path:
    return data_folder() / "jobs"


def new_runtime_folder() -> Path:
    """A fresh folder of mode 0700 for one child's socket; those that dead processes left behind are removed. Socket
    paths end at about 100 bytes, so it is never deep."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = bool(base) and len(base) < 60 and os.access(base, os.W_OK)
    place = base if usable else _short_folder()
    _sweep(Path(place))
    return Path(tempfile.mkdtemp(prefix=f"filbert-{os.getpid()}-", dir=place))


def _sweep(place: Path) -> None:
    """A caller killed while its worker loads leaves its folder: neither of them can take it away any more."""
    for folder in place.glob("filbert-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)) and _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        return not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
    except OSError:  # another process sweeps as well
        return False


def _short_folder() -> str:
    """The temporary folder, unless its name leaves no room for a socket's."""
    folder = tempfile.gettempdir()
    return "/tmp" if os.name == "posix" and len(folder) > 60 else folder
