"""LM Studio keeps owner/repository/file under `models` of its home, or where its settings say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from filbert.models.adopt.found import Find, folder_in, home_folder, models_in, once, small_text

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
            yield from folder_in(own / "settings.json", "downloadsFolder")
