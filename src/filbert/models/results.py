"""Results that belong to a model's bytes: those the catalogue ships, and those measured here, a file each.

    <evaluations>/<16 hex of the model's sha256>/<run>/result.json

A model that is removed leaves them: pulled again, it has them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from filbert.core import paths
from filbert.core.errors import BadInput
from filbert.core.files import safe_name, write_whole
from filbert.core.log import log
from filbert.core.sha256 import is_sha256
from filbert.models import catalogue
from filbert.report.measurement import Kind, Result


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")  # JSON has no NaN
    format: Literal[1]
    result: Result


def of(sha256: str) -> tuple[Result, ...]:
    """What is known of the model with this hash: shipped, then measured here, the oldest first. A file that cannot be
    read is logged and left out."""
    shipped = (result for entry in catalogue.entries() for result in entry.measured if hash_of(result) == sha256)
    files = sorted(folder_of(sha256).glob("*/result.json"))
    kept = (found for path in files if (found := _read(path)) and hash_of(found) == sha256)
    return (*shipped, *sorted(kept, key=lambda result: result.time))


def keep(result: Result) -> None:
    """Keep a result with the model it was measured on, in the place of an earlier one of the same run. Raises DiskFull,
    StoreReadOnly."""
    with write_whole(folder_of(hash_of(result)) / safe_name(result.run) / "result.json") as file:
        file.write(_File(format=1, result=result).model_dump_json(indent=1).encode())


def to_json(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = _File(format=1, result=result).model_dump(mode="json")["result"]
    return found


def run_name(kind: Kind, *asked: object) -> str:
    """What a result is kept as. asked: all that makes it another one: the hash of a text, a window."""
    return f"{kind}-{hashlib.sha256(repr(asked).encode()).hexdigest()[:8]}"


def hash_of(result: Result) -> str:
    return next((each.made_by.model_sha256 for each in result.measurements), "")


def folder_of(sha256: str) -> Path:
    if not is_sha256(sha256):  # it becomes a path
        raise BadInput(f"{sha256!r} is no sha256.", do="Give its 64 hex digits.")
    return paths.evaluations_folder() / sha256[:16]


def _read(path: Path) -> Result | None:
    try:
        found = _File.model_validate_json(path.read_bytes()).result
        if not found.measurements:
            raise ValueError("It holds no numbers.")
        return found
    except (OSError, ValueError) as exc:
        log.warning("The result in %s cannot be read, and is left out: %s", path, exc)
        return None
