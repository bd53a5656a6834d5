"""The store's own records: what is installed under which name, and in which files it lies."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import safe_name, write_whole
from filbert.core.sha256 import WHOLE, WHOLE_OR_NONE
from filbert.models import catalogue
from filbert.models.catalogue import Role
from filbert.models.header import Kind
from filbert.models.name import Name, parse

Record = TypeVar("Record")


class Kept(BaseModel):
    """A file in the store. Only 64 hex digits and plain file names ever become paths (Ollama, CVE-2024-37032)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    name: str
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=WHOLE)
    folder: str = Field(pattern=WHOLE)

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        return safe_name(name)

    @property
    def path(self) -> Path:
        return files_folder() / self.folder / self.name

    @property
    def likely_sha256(self) -> str:
        return self.sha256

    def trouble(self, model: str) -> BadModelFile | None:
        """What keeps `model` from being loaded: the file is gone, cut, or a link out of the store."""
        inside = self.path.resolve().is_relative_to(files_folder().resolve())
        if inside and self.path.is_file() and self.path.stat().st_size == self.size_bytes:
            return None
        return BadModelFile(
            f"{model} is not whole.",
            why=f"{self.name} is missing from the store, or was changed.",
            do=f"`filbert pull {model}` mends it.",
        )


class Linked(BaseModel):
    """A file of another program, used where it lies and never written to. sha256: "" while nobody has read it through.
    claimed_sha256: what the other program says, by which models are told apart and no more. changed_ns: its time stamp
    when it was adopted, which together with the size tells whether it is still that file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    path: Path
    size_bytes: int = Field(ge=0)
    changed_ns: int
    sha256: str = Field("", pattern=WHOLE_OR_NONE)
    claimed_sha256: str = Field("", pattern=WHOLE_OR_NONE)
    folder: ClassVar[str] = ""

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: Path) -> Path:
        if not path.is_absolute() or "\0" in str(path):
            raise ValueError("no absolute path")
        return path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def likely_sha256(self) -> str:
        return self.sha256 or self.claimed_sha256

    def trouble(self, model: str) -> BadModelFile | None:
        """What keeps `model` from being loaded: the other program deleted the file, or put another in its place."""
        do = f"`filbert rm {model}` forgets it, `filbert import` looks for what is there now."
        try:
            there = self.path.stat()
        except OSError as exc:
            return BadModelFile(f"{model} cannot be used.", why=f"{self.path}: {exc.strerror}.", do=do)
        if not stat.S_ISREG(there.st_mode) or (there.st_size, there.st_mtime_ns) != (self.size_bytes, self.changed_ns):
            return BadModelFile(f"{model} cannot be used.", why=f"{self.path} was changed since its import.", do=do)
        return None


class Manifest(BaseModel):
    """What is installed under a name. kind: what its header says it is."""

    model_config = ConfigDict(frozen=True)
    format: Literal[1] = 1
    name: str
    source: str
    revision: str
    licence: str
    pulled: str
    kind: Kind = "language"
    files: tuple[Kept | Linked, ...] = Field(min_length=1)

    @property
    def weights(self) -> tuple[Kept | Linked, ...]:
        """The model itself: its file, or all parts of it."""
        return tuple(file for file in self.files if file.role != "projector")

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
    return read_each(manifest_files(), read_manifest)


def read_each(files: Iterable[Path], read: Callable[[Path], Record]) -> tuple[list[Record], list[BadModelFile]]:
    """The records that can be read, and a sentence for each that cannot."""
    records, errors = list[Record](), list[BadModelFile]()
    for path in files:
        try:
            records.append(read(path))
        except BadModelFile as exc:
            errors += [exc] if path.exists() else []  # or it was removed just now
    return records, errors


def write_manifest(manifest: Manifest) -> None:
    with write_whole(manifest_file(manifest.name)) as file:
        file.write(manifest.model_dump_json(indent=1).encode())


def read_manifest(path: Path) -> Manifest:
    """Raises BadModelFile where the manifest is cut, foreign or hostile."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
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
