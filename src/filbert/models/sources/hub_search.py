"""Searching the hub for repositories with GGUF files. What does not look like a name or a licence is left out: it comes
from strangers, and goes to a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, TypeAdapter, ValidationError

from filbert.core.errors import BadInput, OfflineRefused
from filbert.core.settings import Settings, configured
from filbert.models.download_options import DownloadOptions
from filbert.models.name import parse
from filbert.models.parts import is_projector
from filbert.models.quantisation import BITS_A_WEIGHT, named_in
from filbert.models.sources.hub_api import Asked, answer_of, lookup_errors, senseless

LONGEST_NAME = 200
LICENCE = re.compile(r"license:([a-z0-9][a-z0-9.+_-]{0,60})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Repository:
    """name: hf:owner/repo, to be pulled with ":" and one of the quantisations, which go from the smallest up.
    downloads: of the last month; None where the hub does not say it."""

    name: str
    downloads: int | None
    licence: str
    gated: bool
    quantisations: tuple[str, ...]


class File(BaseModel):
    rfilename: str


class Listed(BaseModel):
    """A repository as the hub tells of it; the fields that are asked for."""

    id: str
    downloads: int | None = None
    gated: bool | str = False
    tags: list[str] = []
    siblings: list[File] = []


def search_hub(words: str, most: int, options: DownloadOptions | None = None) -> tuple[Repository, ...]:
    """The repositories that are downloaded most. Raises OfflineRefused and DownloadFailed."""
    if configured(Settings).offline:
        raise OfflineRefused(
            "The hub cannot be asked.",
            why="The network is forbidden (--offline, FILBERT_OFFLINE or the setting `offline`).",
            do="Search the catalogue, without --hub.",
        )
    with lookup_errors(repr(words)):
        answer = _ask(words, most, (options or configured(DownloadOptions)).stall_s)
    try:
        listed = TypeAdapter(list[Listed]).validate_json(answer)
    except ValidationError as exc:
        raise senseless("It is no list of models.") from exc
    return tuple(_repositories(listed[:most]))


def _ask(words: str, most: int, stall_s: float) -> bytes:
    asked: Asked = {
        "search": words,
        "filter": "gguf",
        "sort": "downloads",
        "limit": most,
        "expand": ["downloads", "gated", "siblings", "tags"],
    }
    return answer_of("/api/models", asked, stall_s)


def _repositories(listed: Iterable[Listed]) -> Iterator[Repository]:
    for each in listed:
        try:
            name = parse(f"hf:{each.id}")
        except BadInput:
            continue
        if name.which or len(name.text) > LONGEST_NAME:
            continue
        licences = [match[1] for tag in each.tags if (match := LICENCE.fullmatch(tag))]
        found = {named_in(file.rfilename) for file in each.siblings if _is_model(file.rfilename)}
        kinds = tuple(kind for kind in BITS_A_WEIGHT if kind in found)
        yield Repository(name.text, each.downloads, licences[0] if licences else "", bool(each.gated), kinds)


def _is_model(file: str) -> bool:
    return file.lower().endswith(".gguf") and not is_projector(file)
