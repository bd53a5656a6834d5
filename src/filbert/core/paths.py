"""Where Filbert keeps things. FILBERT_HOME moves all of it; without it the platform's own folders are used."""

from __future__ import annotations

import os
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


def is_ours(path: Path) -> bool:
    """Whether FILBERT_HOME moves it."""
    folders = (data_folder(), config_file().parent, log_file().parent)
    return any(path.absolute().is_relative_to(folder) for folder in folders)


def models_folder() -> Path:
    return data_folder() / "models"


def jobs_folder() -> Path:
    return data_folder() / "jobs"


def datasets_folder() -> Path:
    return data_folder() / "datasets"


def sources_folder() -> Path:
    """Models as others keep them, to make files of."""
    return data_folder() / "sources"


def converters_folder() -> Path:
    return data_folder() / "converters"


def evaluations_folder() -> Path:
    return data_folder() / "evaluations"


def compressions_folder() -> Path:
    """What was measured of models to compress them, a folder each."""
    return data_folder() / "compressions"


def locks_folder() -> Path:
    """Locks of files that lie in folders of other people."""
    return data_folder() / "locks"


def history_file() -> Path:
    return data_folder() / "chats.db"
