"""Results that belong to a model's bytes: those the catalogue ships, and those measured here, a file each.

    <evaluations>/<16 hex of the model's sha256>/<run>/result.json

A model that is removed leaves them: pulled again, it has them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import safe_name, write_whole
from filbert.core.log import log
from filbert.core.sha256 import is_sha256
from filbert.models import catalogue
from filbert.models.manifest import read_each
from filbert.report.measurement import Kind, Result


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")  # JSON has no NaN
    format: Literal[1]
    result: Result


def of(sha256: str) -> tuple[Result, ...]:
    """What is known of the model with this hash: shipped, then measured here, the oldest first. What is damaged is
    logged and left out."""
    found, errors = whole_and_damaged(sha256)
    for error in errors:
        log.warning("%s", error)
    return found


def whole_and_damaged(sha256: str) -> tuple[tuple[Result, ...], list[BadModelFile]]:
    """As `of`, and a sentence for each file that cannot be read."""
    shipped = (result for entry in catalogue.entries() for result in entry.measured if hash_of(result) == sha256)
    read, errors = read_each(sorted(folder_of(sha256).glob("*/result.json")), _read)
    kept = (result for result in read if hash_of(result) == sha256)
    return (*shipped, *sorted(kept, key=lambda result: result.time)), errors


def keep(result: Result, key: str = "") -> None:
    """Keep a result with the model it was measured on, in the place of an earlier one of the same run. key: stands for
    the hash of a model on another server. Raises DiskFull, StoreReadOnly."""
    with write_whole(folder_of(key or hash_of(result)) / safe_name(result.run) / "result.json") as file:
        file.write(_File(format=1, result=result).model_dump_json(indent=1).encode())


def to_json(result: Result) -> dict[str, Any]:
    """As in its file; what is no number is a word."""
    found: dict[str, Any] = json.loads(_File(format=1, result=result).model_dump_json())["result"]
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


def _read(path: Path) -> Result:
    try:
        found = _File.model_validate_json(path.read_bytes()).result
        if not found.measurements:
            raise ValueError("It holds no numbers.")
    except (OSError, ValueError) as exc:
        raise BadModelFile(
            f"The result in {path} cannot be read.",
            why="It is damaged, or another version wrote it.",
            do="Measure it again, which mends it, or take it away.",
        ) from exc
    return found
