"""The models that have a short name, with where they come from and what their bytes hash to."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from filbert.core.errors import UnknownModel
from filbert.core.nearest import closeness, nearest
from filbert.core.sha256 import WHOLE
from filbert.models.name import Name
from filbert.models.quantisation import bits_a_weight
from filbert.report.measurement import Result

Role = Literal["model", "part", "projector"]
Capability = Literal["chat", "tools", "thinking", "vision", "embed", "rerank"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
SCHEMA_ADDRESS = "https://json-schema.org/draft/2020-12/schema"


class Listed(BaseModel):
    """A file of an entry. `name` is what it is called in the store; without a hash the source's own word is taken.
    md5: where no sha256 is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Role
    name: str
    sha256: str | None = Field(None, pattern=WHOLE)
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    size_bytes: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _has_one_hash(self) -> Self:
        if self.sha256 and self.md5:
            raise ValueError("an md5 beside a sha256 says nothing")
        return self


class Entry(BaseModel):
    """One model of the catalogue. `source` and `projector` are names of another scheme; what no list states is None.
    context: tokens. parameters: the round figure its makers name it by. capabilities: those a list states.
    measured: published results of its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9._-]+:[a-z0-9._-]+-[a-z0-9_]+$")
    source: str
    projector: str | None = None
    maker: str | None = None
    licence: str | None = None
    parameters: int | None = None
    context: int | None = None
    languages: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    sampling: Mapping[str, float] = Field({}, description="What its makers recommend, where the file does not say it.")
    files: tuple[Listed, ...] = Field(min_length=1)
    measured: tuple[Result, ...] = ()

    @property
    def short(self) -> str:
        """The name without its quantisation."""
        return self.name.rpartition("-")[0]

    @property
    def quantisation(self) -> str:
        """As names spell it: q4_k_m."""
        return self.name.rpartition("-")[2]

    @property
    def size_bytes(self) -> int | None:
        """Of all files; None where one is not known."""
        sizes = [file.size_bytes for file in self.files if file.size_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


class Catalogue(BaseModel):
    """All of catalogue.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    models: tuple[Entry, ...]


def schema() -> str:
    """The text of catalogue.schema.json, by which others can check or read the catalogue."""
    made = {"$schema": SCHEMA_ADDRESS, **Catalogue.model_json_schema()}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


@cache
def entries() -> tuple[Entry, ...]:
    """Every entry; the first of a family and size is what the name without a quantisation means."""
    text = resources.files("filbert.models").joinpath("catalogue.json").read_text("utf-8")
    return Catalogue.model_validate_json(text).models


def quantisations(short: str) -> tuple[Entry, ...]:
    """The entries of one model, the finest first; nothing for a name that is not in the catalogue."""
    found = [entry for entry in entries() if entry.short == short.lower()]
    return tuple(sorted(found, key=lambda entry: -(bits_a_weight(entry.quantisation) or 0)))


def names() -> list[str]:
    """Every name of every entry, with and without its quantisation."""
    return [name for entry in entries() for name in (entry.short, entry.name)]


def recommended_sampling(hashes: Collection[str]) -> Mapping[str, float]:
    """What the makers of the model with these files recommend; nothing where it is not known."""
    known = (entry.sampling for entry in entries() if any(file.sha256 in hashes for file in entry.files))
    return next(known, {})


def by_file(file: str) -> Entry | None:
    """The entry whose model has this file name, as other programs that fetched it still call it."""
    return next((entry for entry in entries() if entry.files[0].name == file), None)


def find(name: Name, installed: Iterable[str] = ()) -> Entry:
    """The entry of a catalogue name. Raises UnknownModel with the nearest names, here and in the catalogue."""
    for entry in entries():
        if name.text in (entry.name, entry.short):
            return entry
    raise unknown(name.text, installed)


def unknown(text: str, installed: Iterable[str]) -> UnknownModel:
    """The error for a name that nobody knows: what comes near it, here and in the catalogue."""
    if text in names():
        return UnknownModel(f"{text} is not here yet.", do=f"`filbert pull {text}` gets it.")
    there, here = nearest(text, names()), nearest(text, installed := list(installed))
    if there and not (here and closeness(text, here[0]) >= closeness(text, there[0])):
        do = f"`filbert pull {there[0]}` gets the nearest in the catalogue ({', '.join(there)})."
    else:
        do = "`filbert list --available` shows what there is to get; hf:owner/repo:Q4_K_M names a model on the hub."
    return UnknownModel(f"There is no model {text}.", why=nearest_installed(text, installed), do=do)


def nearest_installed(text: str, installed: Iterable[str]) -> str:
    """A sentence, "" where nothing comes near."""
    near = nearest(text, installed)
    return f"The nearest installed: {', '.join(near)}." if near else ""
