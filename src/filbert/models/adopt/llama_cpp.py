"""llama.cpp's cache: flat, `owner_repository_file.gguf`; since 2026 laid out as the Hugging Face cache is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from filbert.models.adopt import hub_cache
from filbert.models.adopt.found import Find, Found, folder_of_variable, home_folder, models_in, once

PROGRAM = "llama.cpp"
OF_A_REPOSITORY = re.compile(
    r"(?P<owner>[A-Za-z0-9-]+)_(?P<repository>.+?-GGUF)_(?P<file>.+\.gguf)", re.IGNORECASE
)  # where no record tells it


def finds() -> Iterator[Find]:
    for folder in once(folders()):
        yield from hub_cache.finds_in(folder, PROGRAM)
        origins = _origins(folder)
        for find in models_in(folder, PROGRAM, of_one_model=False):
            if not isinstance(find, Found):
                yield find
            elif find.parts[0].parent.name != "snapshots" and "snapshots" not in find.parts[0].parts:
                yield replace(find, name=_named(find.parts[0].name, origins))


def folders() -> Iterator[Path]:
    home = home_folder()
    yield from folder_of_variable("LLAMA_CACHE")
    yield from folder_of_variable("XDG_CACHE_HOME", "llama.cpp")
    yield home / ".cache" / "llama.cpp"
    yield home / "Library" / "Caches" / "llama.cpp"
    yield from folder_of_variable("LOCALAPPDATA", "llama.cpp")


def _origins(folder: Path) -> dict[str, str]:
    """{how the names of a repository's files begin: the repository}, from the names of the records beside them."""
    records = (path.name.removesuffix(".json").split("=") for path in folder.glob("manifest=*.json"))
    return {f"{record[1]}_{record[2]}_": f"{record[1]}/{record[2]}" for record in records if len(record) >= 4}


def _named(file: str, origins: dict[str, str]) -> str:
    begins = next((begin for begin in origins if file.startswith(begin)), None)
    if begins:
        return f"hf:{origins[begins]}/{file.removeprefix(begins)}"
    match = OF_A_REPOSITORY.fullmatch(file)
    return f"hf:{match['owner']}/{match['repository']}/{match['file']}" if match else ""
