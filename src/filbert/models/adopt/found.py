"""What a search of other programs' folders finds. Nothing there is trusted: paths come from walking, names are checked,
texts are bounded, and only regular files are opened."""

from __future__ import annotations

import json
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from unicodedata import category

from filbert.core.errors import BadModelFile
from filbert.models.parts import SPLIT, is_projector, parts_beside

DEEPEST = 8  # folders below the one that is searched
MOST_TEXT_BYTES = 1 << 20
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # controls, bytes that are no UTF-8, ends of lines and paragraphs
Belongs = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """A model file, or all parts of one. name: what its program calls it, "" where it goes by its file; name_given: a
    person wants it so. source: where it comes from, "" where the path tells; two sources of one file are two models.
    hashes: of the parts, where the program keeps them. sampling, system: what the program runs it with, in our words.
    note: what a person should know of it."""

    program: str
    parts: tuple[Path, ...]
    projector: Path | None = None
    name: str = ""
    name_given: bool = False
    source: str = ""
    hashes: tuple[str, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """What looked like a model and is none, or cannot be read. why: a sentence."""

    program: str
    what: str
    why: str


Find: TypeAlias = Found | Refused


def is_gguf(name: str) -> bool:
    """A GGUF by its name, or a model of the days before that format, which is then told apart by its first bytes."""
    name = name.lower()
    return name.endswith(".gguf") or (name.startswith("ggml") and name.endswith(".bin"))


def walk(folder: Path, program: str, belongs: Belongs = is_gguf) -> Iterator[Path | Refused]:
    """The files below a folder whose names belong, in order. Links are followed, each folder is entered once."""
    entered: set[tuple[int, int]] = set()
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        try:
            identity = here.stat()
            if (identity.st_dev, identity.st_ino) in entered:
                continue
            entered.add((identity.st_dev, identity.st_ino))
            files, folders = _inside(here, belongs)
        except OSError as exc:
            yield Refused(program, str(here), f"The folder cannot be read: {exc.strerror}.")
            continue
        yield from files
        waiting += [(path, depth + 1) for path in reversed(folders) if depth < DEEPEST]


def _inside(folder: Path, belongs: Belongs) -> tuple[list[Path], list[Path]]:
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_folder(entry):
                folders.append(folder / entry.name)
            elif belongs(entry.name):
                files.append(folder / entry.name)
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def models_in(folder: Path, program: str, *, of_one_model: bool) -> Iterator[Find]:
    """The models below a folder. of_one_model: whether each folder holds one model and nothing else, if in several
    quantisations, so that a projector belongs to all of them; elsewhere it belongs to the only model beside it."""
    beside: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in walk(folder, program):
        if isinstance(path, Refused):
            yield path
        else:
            beside[path.parent].append(path)
    for files in beside.values():
        yield from _models_of(files, program, of_one_model)


def _models_of(files: list[Path], program: str, of_one_model: bool) -> Iterator[Find]:
    models = list(_whole(path for path in files if not is_projector(path.name)))
    projectors = [path for path in files if is_projector(path.name)]
    several = len(models) > 1 or len(projectors) > 1
    belongs = projectors and models and (of_one_model or not several)
    projector = min(projectors, key=_size) if belongs else None
    for first in models:
        try:
            yield Found(program, tuple(parts_beside(first)), projector)
        except BadModelFile as exc:
            yield Refused(program, str(first), f"{exc.why}")
    if not belongs:
        for path in projectors:
            yield Refused(program, str(path), "It is a projector, and which model it belongs to is not clear.")


def _whole(paths: Iterable[Path]) -> Iterator[Path]:
    """One path a model: of a model in parts the first that is there."""
    seen = set()
    for path in paths:
        match = SPLIT.fullmatch(path.name)
        key = (match["stem"], match["count"]) if match else path.name
        if key not in seen:
            seen.add(key)
            yield path


def _size(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_size, path.name
    except OSError:
        return 1 << 62, path.name


def small_text(path: Path) -> str | None:
    """A small text file of another program; None where it is not there, too long, no text or no regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with os.fdopen(
            os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as file:
            data = file.read(MOST_TEXT_BYTES + 1)
    except (OSError, ValueError):
        return None
    try:
        return data.decode("utf-8-sig") if len(data) <= MOST_TEXT_BYTES else None
    except UnicodeDecodeError:
        return None


def printable(text: str) -> str:
    """A text of others for one line of a terminal: the names of files may hold anything."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(each) in UNPRINTABLE else each for each in text)


def home_folder() -> Path:
    """The person's; where nobody knows it, one in which nothing is."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


def folder_of_variable(name: str, *below: str) -> list[Path]:
    """The folder that an environment variable names, with `below` under it; none where it is not set."""
    value = os.environ.get(name, "")
    return [Path(value, *below).absolute()] if value and "\0" not in value else []


def folder_in(settings: Path, key: str) -> Iterator[Path]:
    """The absolute folder that a program's settings, a JSON object, hold under a key; none where they do not."""
    try:
        folder = json.loads(small_text(settings) or "{}")[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        return
    if isinstance(folder, str) and Path(folder).is_absolute():
        yield Path(folder)


def once(folders: Iterable[Path]) -> list[Path]:
    """Those that are there, each once, however many paths lead to it."""
    there: dict[Path, Path] = {}
    for folder in folders:
        if is_there(folder):
            there.setdefault(folder.resolve(), folder)
    return list(there.values())


def is_there(folder: Path) -> bool:
    """Whether there is a folder; also where we may not look, for that is to be told."""
    try:
        return folder.is_dir()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
