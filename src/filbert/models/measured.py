"""Results that belong to a model's bytes: those the catalogue ships, and those measured here, a file a model.

<data>/measured/<sha256>.json
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import locked, write_whole
from filbert.core.sha256 import is_sha256
from filbert.models import catalogue
from filbert.models.catalogue import Measured


class Results(BaseModel):
    """All of a file, the oldest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    results: tuple[Measured, ...] = ()


def of(sha256: str) -> tuple[Measured, ...]:
    """What is known of the model with this hash: shipped, then measured here. Raises BadModelFile for a broken file."""
    shipped = (result for entry in catalogue.entries() for result in entry.measured if hash_of(result) == sha256)
    return (*shipped, *_read(_file(sha256)).results)


def add(result: Measured) -> None:
    """Keep a result with the model it was measured on. Processes that add at the same time wait for one another.
    Raises BadModelFile for a broken file, which stays as it is, DiskFull, StoreReadOnly."""
    path = _file(hash_of(result))
    with locked(path.with_suffix(".lock")):
        kept = Results(results=(*_read(path).results, result))
        with write_whole(path) as file:
            file.write(kept.model_dump_json(indent=1).encode())


def hash_of(result: Measured) -> str:
    return result.measurement.made_by.model_sha256


def _file(sha256: str) -> Path:
    if not is_sha256(sha256):  # it becomes a path
        raise BadInput(f"{sha256!r} is no sha256.", do="Give its 64 hex digits.")
    return paths.data_folder() / "measured" / f"{sha256}.json"


def _read(path: Path) -> Results:
    try:
        return Results.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Results()
    except (OSError, ValidationError) as exc:
        raise BadModelFile(
            f"The results in {path} cannot be read.", why="The file is damaged.", do="Mend it, or take it away."
        ) from exc
