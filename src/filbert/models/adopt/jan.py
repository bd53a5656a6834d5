"""Jan keeps a folder a model, with a `model.yml` that names the files in it, or files elsewhere that were imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from filbert.core.errors import BadModelFile
from filbert.core.sha256 import is_sha256
from filbert.models.adopt.found import (
    Find,
    Found,
    Refused,
    folder_in,
    folder_of_variable,
    home_folder,
    models_in,
    once,
    small_text,
    walk,
)
from filbert.models.adopt.naming import readable
from filbert.models.parts import parts_beside

PROGRAM = "Jan"
FIELD = re.compile(r"^(model_path|mmproj_path|model_sha256|name):[ \t]*(\S.*)$", re.MULTILINE)


def finds() -> Iterator[Find]:
    told: set[Path] = set()
    for data in once(_data_folders()):
        for folder in once((data / "llamacpp" / "models", data / "models")):
            for find in _recorded(data, folder):
                told.update(find.parts if isinstance(find, Found) else ())
                yield find
            for find in models_in(folder, PROGRAM, of_one_model=True):
                if isinstance(find, Refused) or not told.intersection(find.parts):
                    yield find


def _data_folders() -> Iterator[Path]:
    home = home_folder()
    yield home / "jan"
    for own in (
        *folder_of_variable("XDG_DATA_HOME", "Jan"),
        home / ".local" / "share" / "Jan",
        *folder_of_variable("XDG_CONFIG_HOME", "Jan"),
        home / ".config" / "Jan",
        *folder_of_variable("APPDATA", "Jan"),
        home / "Library" / "Application Support" / "Jan",
    ):
        yield own / "data"
        yield from folder_in(own / "settings.json", "data_folder")


def _recorded(data: Path, folder: Path) -> Iterator[Find]:
    for record in walk(folder, PROGRAM, "model.yml".__eq__):
        if isinstance(record, Refused):
            continue  # told when the same folders are searched for files
        fields = {key: value.rstrip().strip("'\"") for key, value in FIELD.findall(small_text(record) or "")}
        if "model_path" in fields:
            yield _described(data, record, fields)


def _described(data: Path, record: Path, fields: dict[str, str]) -> Find:
    """The model of a `model.yml`. A relative path means one in Jan's own folder, and does not lead out of it."""
    paths = [data / fields[key] for key in ("model_path", "mmproj_path") if key in fields]
    for key, path in zip(("model_path", "mmproj_path"), paths, strict=False):
        if ".." in Path(fields[key]).parts or "\0" in str(path):
            return Refused(PROGRAM, str(record), f"Its {key} leads out of Jan's folder.")
    try:
        parts = tuple(parts_beside(paths[0]))
    except BadModelFile as exc:
        return Refused(PROGRAM, str(record), exc.why)
    sha256 = fields.get("model_sha256", "")
    hashes = (sha256,) if len(parts) == 1 and is_sha256(sha256) else ()
    named = fields.get("name") or record.parent.name
    found = Found(PROGRAM, parts, paths[1] if len(paths) > 1 else None, hashes=hashes)
    return replace(found, name=readable(named)) if parts[0].stem.lower() == "model" else found
