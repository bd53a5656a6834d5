"""A model in several files: `x-00001-of-00003.gguf` and the two that follow it."""

from __future__ import annotations

import re
from pathlib import Path

from filbert.core.errors import BadModelFile

SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.ASCII)
MOST_PARTS = 999


def part_names(name: str) -> list[str]:
    """The names of all parts of the model that `name` is a part of, in order; `name` alone where it is whole."""
    match = SPLIT.fullmatch(name)
    if not match:
        return [name]
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count <= MOST_PARTS:
        raise BadModelFile(
            f"{name} is no part of a model.", why="Its number is not among the parts.", do="Give it its own name again."
        )
    return [f"{match['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def is_projector(name: str) -> bool:
    """Whether a file's name says that it is a vision projector."""
    return "mmproj" in name.lower()


def projector_of(model: Path) -> Path:
    """Where the projector of a model file lies that we write, and is found."""
    return model.with_name(f"mmproj-{model.name}")


def parts_beside(path: Path) -> list[Path]:
    """The files of the model that `path` is, or is a part of. Raises BadModelFile when one is not there."""
    parts = [path.with_name(name) for name in part_names(path.name)] if SPLIT.fullmatch(path.name) else [path]
    for part in parts if len(parts) > 1 else ():
        if not _is_file(part):
            raise BadModelFile(
                f"{path.name} is one of {len(parts)} parts.",
                why=f"{part.name} is not beside it.",
                do="Put all parts into one folder.",
            )
    return parts


def _is_file(part: Path) -> bool:
    try:
        return part.is_file()
    except OSError as exc:  # a folder that may not be looked into; a name too long for any disk
        raise BadModelFile(
            f"{part.name} cannot be looked for.", why=f"{exc.strerror}.", do="Check its folder."
        ) from exc
