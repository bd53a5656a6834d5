"""GPT4All keeps its files flat: the Python package in one folder, the window in another, or where its settings say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from filbert.models.adopt.found import Find, folder_of_variable, home_folder, models_in, once, small_text

PROGRAM = "GPT4All"
ESCAPE = re.compile(r"\\x([0-9a-fA-F]{1,4})|\\(.)")


def finds() -> Iterator[Find]:
    for folder in once(folders()):
        yield from models_in(folder, PROGRAM, of_one_model=False)


def folders() -> Iterator[Path]:
    yield package_folder()
    home = home_folder()
    for data in (
        *folder_of_variable("XDG_DATA_HOME"),
        home / ".local" / "share",
        *folder_of_variable("LOCALAPPDATA"),
        home / "Library" / "Application Support",
    ):
        yield data / "nomic.ai" / "GPT4All"
    for settings in (*folder_of_variable("XDG_CONFIG_HOME"), home / ".config", *folder_of_variable("APPDATA")):
        yield from _configured(settings / "nomic.ai" / "GPT4All.ini")


def package_folder() -> Path:
    """Where the Python package keeps its files."""
    return home_folder() / ".cache" / "gpt4all"


def _configured(settings: Path) -> Iterator[Path]:
    """The folder `modelPath` of its settings, a file as Qt writes them."""
    for line in (small_text(settings) or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "modelPath" and value.strip():
            path = Path(ESCAPE.sub(_meant, value.strip().strip('"')))
            yield from [path] if path.is_absolute() else []


def _meant(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[2]
