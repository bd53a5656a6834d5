"""The store's own records: what is installed under which name, and in which files it lies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import safe_name
from filbert.models import catalogue
from filbert.models.catalogue import Role
from filbert.models.name import Name, parse

HEX = "^[0-9a-f]{64}$"


class Kept(BaseModel):
    """A file of a manifest. Only 64 hex digits and plain file names ever become paths (Ollama, CVE-2024-37032)."""

    model_config = ConfigDict(frozen=True)
    role: Role
    name: str
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=HEX)
    folder: str = Field(pattern=HEX)

    @property
    def path(self) -> Path:
        return files_folder() / self.folder / safe_name(self.name)


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)
    format: Literal[1] = 1
    name: str
    source: str
    revision: str
    licence: str
    pulled: str
    files: tuple[Kept, ...] = Field(min_length=1)

    @field_validator("pulled")
    @classmethod
    def _is_a_time(cls, pulled: str) -> str:
        try:
            datetime.fromisoformat(pulled).timestamp()
        except OverflowError as exc:
            raise ValueError("a time that no clock shows") from exc
        return pulled


def names_folder() -> Path:
    return paths.models_folder() / "names"


def files_folder() -> Path:
    return paths.models_folder() / "files"


def manifest_file(text: str) -> Path:
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", text)[:60].strip("-.").lower()
    return names_folder() / f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def manifest_files() -> list[Path]:
    return sorted(path for path in names_folder().glob("*.json") if path.is_file())


def manifest_of(name: Name) -> Path | None:
    return next((path for text in _spellings(name) if (path := manifest_file(text)).is_file()), None)


def _spellings(name: Name) -> Iterator[str]:
    """The names under which a model may be installed: a family and size mean the catalogue's choice where it is here,
    else the only one that is; a family alone means the only one that is here."""
    yield name.text
    if name.scheme == "catalogue" and ":" not in name.text:
        of_family = [text for text in installed_names() if text.startswith(f"{name.text}:")]
        yield from of_family if len(of_family) == 1 else []
    elif name.scheme == "catalogue" and not name.which:
        yield from (entry.name for entry in catalogue.entries() if entry.short == name.text)
        others = [
            text for text in installed_names() if text.startswith(f"{name.text}-") and parse(text).where == name.where
        ]
        yield from others if len(others) == 1 else []


def installed_names() -> list[str]:
    return [manifest.name for manifest in read_manifests()[0]]


def read_manifests() -> tuple[list[Manifest], list[BadModelFile]]:
    """Those that can be read, and a sentence for each that cannot."""
    manifests, errors = [], []
    for path in manifest_files():
        try:
            manifests.append(read_manifest(path))
        except BadModelFile as exc:
            errors += [exc] if path.exists() else []  # or it was removed just now
    return manifests, errors


def read_manifest(path: Path) -> Manifest:
    """Raises BadModelFile where the manifest is cut, foreign or hostile."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
        for file in manifest.files:
            safe_name(file.name)
        if manifest_file(manifest.name) != path:
            raise BadInput("It is of another name.")
    except (OSError, ValidationError, BadInput) as exc:
        raise BadModelFile(
            f"The record {path.name} in the store is damaged.",
            why="Its model's file is kept.",
            do="Pull the model again, which mends the record, or remove the name.",
        ) from exc
    return manifest


def one_hash(hashes: Sequence[str]) -> str:
    """The hash that stands for several files; that of the file where there is one."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
