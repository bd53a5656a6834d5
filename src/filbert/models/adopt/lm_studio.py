"""LM Studio keeps owner/repository/file under `models` of its home, or where its settings say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from filbert.models.adopt.found import Find, home_folder, models_in, once, small_text

PROGRAM = "LM Studio"


def finds() -> Iterator[Find]:
    for folder in once(folders()):
        yield from models_in(folder, PROGRAM, of_one_model=True)


def folders() -> Iterator[Path]:
    home = home_folder()
    pointer = (small_text(home / ".lmstudio-home-pointer") or "").strip()
    pointed = [Path(pointer.splitlines()[0].strip())] if pointer else []
    for own in (*pointed, home / ".lmstudio", home / ".cache" / "lm-studio"):
        if own.is_absolute():
            yield own / "models"
            yield own / ".internal" / "bundled-models"
            yield from _configured(own / "settings.json")


def _configured(settings: Path) -> Iterator[Path]:
    try:
        folder = json.loads(small_text(settings) or "{}")["downloadsFolder"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return
    if isinstance(folder, str) and Path(folder).is_absolute():
        yield Path(folder)
