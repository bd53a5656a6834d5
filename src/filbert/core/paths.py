"""Where Filbert keeps things. FILBERT_HOME moves all of it; without it the platform's own folders are used."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs


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
    """A fresh folder of mode 0700 for one child's socket. Socket paths end at about 100 bytes, so it is never deep."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = bool(base) and len(base) < 60 and os.access(base, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="filbert-", dir=base if usable else _short_folder()))


def _short_folder() -> str:
    """The temporary folder, unless its name leaves no room for a socket's."""
    folder = tempfile.gettempdir()
    return "/tmp" if os.name == "posix" and len(folder) > 60 else folder
