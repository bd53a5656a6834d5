"""The Hugging Face cache: `models--owner--repository/snapshots/<commit>/<file>`, links into `blobs` called by hash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from filbert.core.sha256 import is_sha256
from filbert.models.adopt.found import (
    Find,
    Found,
    Refused,
    folder_of_variable,
    home_folder,
    models_in,
    once,
    small_text,
)

PROGRAM = "Hugging Face"
COMMIT = re.compile(r"[0-9a-f]{40}")


def finds() -> Iterator[Find]:
    for folder in once(folders()):
        yield from finds_in(folder, PROGRAM)


def folders() -> Iterator[Path]:
    yield from folder_of_variable("HF_HUB_CACHE")
    yield from folder_of_variable("HUGGINGFACE_HUB_CACHE")
    yield from folder_of_variable("HF_HOME", "hub")
    yield from folder_of_variable("XDG_CACHE_HOME", "huggingface", "hub")
    yield home_folder() / ".cache" / "huggingface" / "hub"


def finds_in(folder: Path, program: str) -> Iterator[Find]:
    """The newest of each repository's snapshots, and what only older ones have."""
    try:
        repositories = sorted(path for path in folder.iterdir() if path.name.startswith("models--"))
    except OSError as exc:
        yield Refused(program, str(folder), f"The folder cannot be read: {exc.strerror}.")
        return
    for repository in repositories:
        known: set[Path] = set()
        for snapshot in _snapshots(repository):
            for find in models_in(snapshot, program, of_one_model=True):
                if not isinstance(find, Found):
                    yield find
                elif (inside := find.parts[0].relative_to(snapshot)) not in known:
                    known.add(inside)
                    yield _named(find, repository, inside)


def _snapshots(repository: Path) -> list[Path]:
    """Those of a repository, the one that its main branch means first."""
    main = (small_text(repository / "refs" / "main") or "").strip()
    try:
        there = [path for path in (repository / "snapshots").iterdir() if COMMIT.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(there, key=lambda path: (path.name != main, path.name))


def _named(found: Found, repository: Path, inside: Path) -> Found:
    owner, _, name = repository.name.removeprefix("models--").partition("--")
    hub = f"hf:{owner}/{name}/{inside.as_posix()}" if name and "--" not in name else ""
    return replace(found, name=hub, source=hub, hashes=_hashes(found.parts))


def _hashes(parts: tuple[Path, ...]) -> tuple[str, ...]:
    """What the cache says that they hash to: the names of the blobs that the files are links to."""
    try:
        blobs = tuple(part.resolve().name for part in parts)
    except (OSError, RuntimeError):
        return ()
    return blobs if all(map(is_sha256, blobs)) else ()
