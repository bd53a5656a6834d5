"""The models that can be loaded now: what is here, and what a name means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filbert.core.errors import BadInput, BadModelFile, DiskFull, FilbertError, StoreReadOnly, UnknownModel
from filbert.core.files import sha256_of
from filbert.core.log import log
from filbert.models import catalogue, preset
from filbert.models.gguf import Header
from filbert.models.header import Kind
from filbert.models.manifest import (
    Manifest,
    installed_names,
    manifest_file,
    manifest_files,
    manifest_of,
    one_hash,
    read_each,
    read_manifest,
    write_manifest,
)
from filbert.models.name import Name, divided, parse
from filbert.models.parts import is_projector, parts_beside, projector_of
from filbert.models.preset import Preset


@dataclass(frozen=True)
class StoredModel:
    """A model that can be loaded now. path: what the engine loads, the first of `parts`. size_bytes: of all its files.
    pulled: when, in ISO 8601; "" for a file used where it lies. hashes: of the parts, empty while one is not known.
    kind: what its header says it is, for an installed model. adapters: LoRA adapters upon it. preset: what a person
    keeps with it."""

    name: str
    path: Path
    parts: tuple[Path, ...]
    projector: Path | None
    size_bytes: int
    source: str
    licence: str = ""
    revision: str = ""
    pulled: str = ""
    hashes: tuple[str, ...] = ()
    kind: Kind = "language"
    adapters: tuple[Path, ...] = ()
    preset: Preset | None = None

    @cached_property
    def sha256(self) -> str:
        """Of the file, read when nobody knows it yet; of the parts' hashes, a line each, when there are several."""
        return one_hash(self.hashes or _hashed(self))

    @property
    def known_sha256(self) -> str | None:
        """As `sha256`, but None rather than read gigabytes."""
        return one_hash(self.hashes) if self.hashes else None


def list_models() -> list[StoredModel]:
    """Every whole model, by name. What is damaged is left out, logged, and told by `damaged`."""
    models, errors = whole_and_damaged()
    for error in errors:
        log.warning("%s", error)
    return models


def damaged() -> list[FilbertError]:
    """A sentence for each name whose record or file is not whole, or that stands for a model that is gone."""
    return whole_and_damaged()[1]


def whole_and_damaged() -> tuple[list[StoredModel], list[FilbertError]]:
    """What `list_models` and `damaged` tell, read once. People's own names for models are among them."""
    own, errors = preset.stand_ins()
    models, damaged = read_each(manifest_files(), lambda path: _stored(read_manifest(path)))
    errors += damaged
    for each in own:
        try:
            preset.need_unhidden(each)
            models += filter(None, [find(each.name)])
        except FilbertError as exc:
            is_told = str(exc) in map(str, errors)  # of the model that it stands for
            errors.append(
                BadModelFile(
                    f"{each.name} stands for {each.stands_for}, which is damaged.",
                    do="Mend that one first.",
                )
                if is_told
                else exc
            )
    return sorted(models, key=lambda model: model.name), errors


def installed(text: str) -> StoredModel:
    """The model of that name in the store, never a path. Raises UnknownModel with the nearest names, BadModelFile."""
    if found := named(text):
        return found
    raise catalogue.unknown(divided(text)[0], [*installed_names(), *preset.stand_in_names()])


def named(text: str) -> StoredModel | None:
    """As `installed`, but None for a name that is not."""
    return preset.find(text, _named, _named_or_path)


def resolve(text: str) -> StoredModel:
    """The model that a name or path means. Raises UnknownModel, BadModelFile; contacts nothing."""
    if found := find(text):
        return found
    base = divided(text)[0]
    refuse_bare_file(base)
    raise catalogue.unknown(meant(base).text, [*installed_names(), *preset.stand_in_names()])


def find(text: str) -> StoredModel | None:
    """As `resolve`, but None for a name that is not installed."""
    if is_file_with_plus(text):
        return _named_or_path(text)
    return preset.find(text, _named_or_path, _named_or_path)


def is_file_with_plus(text: str) -> bool:
    """Whether a text is the path of one file that is there, and no model with adapters upon it."""
    try:
        return "+" in text and (name := parse(text)).scheme == "file" and os.path.lexists(name.where)
    except (BadInput, ValueError):  # a model with adapters is no name; a zero byte is in no path
        return False


def _named_or_path(text: str) -> StoredModel | None:
    name = meant(text)
    return in_place(Path(name.where)) if name.scheme == "file" else _named(name.text)


def _named(text: str) -> StoredModel | None:
    manifest = manifest_of(parse(text))
    return _stored(read_manifest(manifest)) if manifest else None


def meant(text: str) -> Name:
    """As `parse`; a file's name without a folder, where there is no such file, means the entry that it belongs to:
    programs that fetched it keep asking for it so."""
    name = parse(text)
    if name.scheme != "file" or Path(text.strip()).name != text.strip() or os.path.lexists(name.where):
        return name
    entry = catalogue.by_file(text.strip())
    return parse(entry.name) if entry else name


def refuse_bare_file(text: str) -> None:
    """A file's name that might be a model's is taken for a model's; where there is such a file, say how to mean it, and
    of a folder what finds the models in it."""
    if parse(text).scheme != "catalogue":
        return
    if Path(text).is_dir():
        raise UnknownModel(f"{text} is a folder.", do=f"`filbert import {text}` finds models in it.")
    if _is_readable_file(Path(text)):
        raise UnknownModel(
            f"There is no model {text}.", why="There is a file of that name.", do=f"`./{text}` means it."
        )


def in_place(path: Path) -> StoredModel:
    """A model outside the store, used where it lies. Missing, forbidden and no file at all give one and the same error,
    so that no caller learns which (Ollama, CVE-2024-39722)."""
    if not _is_readable_file(path):
        raise UnknownModel(
            f"There is no model file at {path}.", do="Check the path; `filbert import FOLDER` finds models in a folder."
        )
    parts = parts_beside(path)
    projector = projector_beside(parts)
    size = sum(file.stat().st_size for file in (*parts, *([projector] if projector else [])))
    return StoredModel(str(path), parts[0], tuple(parts), projector, size, str(path))


def describe(stored: StoredModel, headers: Sequence[Header]) -> dict[str, Any]:
    """What `filbert show` tells. headers: of the parts, in order. Sizes in bytes, context in tokens."""
    first, types = headers[0], dict[str, tuple[int, int]]()
    for header in headers:
        for kind, (count, size) in header.tensor_types.items():
            before = types.get(kind, (0, 0))
            types[kind] = (before[0] + count, before[1] + size)
    return {
        "name": stored.name,
        "kind": first.kind,
        "architecture": first.architecture,
        "parameters": sum(header.parameters for header in headers),
        "context": first.context_length,
        "quantisation": first.quantisation,
        "tensor types": types,
        "bytes": stored.size_bytes,
        "licence": stored.licence or first.licence,
        "template": (stored.preset and stored.preset.template) or first.chat_template,
        "sha256": stored.sha256,
        "source": stored.source,
        "path": str(stored.path),
        "parts": len(stored.parts),
        "projector": str(stored.projector) if stored.projector else None,
        **({"adapters": list(map(str, stored.adapters))} if stored.adapters else {}),
        **({"preset": stored.preset.model_dump(exclude_defaults=True)} if stored.preset else {}),
    }


def _stored(manifest: Manifest) -> StoredModel:
    if trouble := next(filter(None, (file.trouble(manifest.name) for file in manifest.files)), None):
        raise trouble
    parts = [file for file in manifest.files if file.role != "projector"]
    projector = next((file.path for file in manifest.files if file.role == "projector"), None)
    return StoredModel(
        name=manifest.name,
        path=parts[0].path,
        parts=tuple(file.path for file in parts),
        projector=projector,
        size_bytes=sum(file.size_bytes for file in manifest.files),
        source=manifest.source,
        licence=manifest.licence,
        revision=manifest.revision,
        pulled=manifest.pulled,
        hashes=tuple(file.sha256 for file in parts) if all(file.sha256 for file in parts) else (),
        kind=manifest.kind,
    )


def _hashed(model: StoredModel) -> tuple[str, ...]:
    """Of the parts, read through; what is installed under the name remembers them. Raises BadModelFile."""
    hashes = tuple(sha256_of(part) for part in model.parts)
    path = manifest_file(model.name)
    if path.is_file():
        manifest = read_manifest(path)
        _stored(manifest)  # what was read is what was adopted
        known = dict(zip(model.parts, hashes, strict=True))
        files = tuple(file.model_copy(update={"sha256": known.get(file.path, file.sha256)}) for file in manifest.files)
        with suppress(StoreReadOnly, DiskFull):  # then it is read once more another time
            write_manifest(manifest.model_copy(update={"files": files}))
    return hashes


def whole_model(text: str) -> StoredModel | None:
    manifest = manifest_file(text)
    try:
        return _stored(read_manifest(manifest)) if manifest.is_file() else None
    except BadModelFile:
        return None


def _is_readable_file(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return False


def projector_beside(parts: Sequence[Path]) -> Path | None:
    """The projector that is called after the model; or else the one of a folder that holds one model and one projector:
    any other pair would be a guess."""
    if (own := projector_of(parts[0])).is_file():
        return own
    files = [path for path in parts[0].parent.glob("*.gguf") if path not in parts]
    projectors = [path for path in files if is_projector(path.name)]
    return projectors[0] if len(files) == len(projectors) == 1 and not is_projector(parts[0].name) else None
