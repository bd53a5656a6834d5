"""The models on this machine.

    <models>/names/<slug>-<hash>.json    one manifest an installed name, written last: without it there is no model
    <models>/files/<64 hex>/x.gguf       a folder a model file, or all parts of one: the engine wants them together
    <models>/files/<64 hex>.lock         held while a folder is filled or emptied

A folder is called after the sha256 of what is in it, so two names of one file share it; where no hash was known before
the first download, after the address. A model file that a person keeps elsewhere is used where it lies.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from filbert.core import jobs
from filbert.core.errors import BadInput, BadModelFile, EngineMissing, StoreBusy, UnknownModel
from filbert.core.files import disk_errors, locked, safe_name, sha256_of, write_whole
from filbert.core.jobs import Job, Progress, Watch
from filbert.core.log import log
from filbert.core.machine import unsupported_by_engine
from filbert.core.settings import configured
from filbert.models import catalogue
from filbert.models.download_options import DownloadOptions
from filbert.models.gguf import Header, check_split, read_header
from filbert.models.manifest import (
    HEX,
    Kept,
    Manifest,
    files_folder,
    installed_names,
    manifest_file,
    manifest_files,
    manifest_of,
    read_manifest,
    read_manifests,
)
from filbert.models.name import Name, parse
from filbert.models.parts import parts_beside
from filbert.models.remote import RemoteFile, need_network
from filbert.models.sources import Listing, Source, source_of

PART_KEPT_S = 7 * 86400


@dataclass(frozen=True)
class StoredModel:
    """A model that can be loaded now. path: what the engine loads, the first of `parts`. size_bytes: of all its files.
    pulled: when, in ISO 8601; "" for a file used where it lies. hashes: of the parts, as far as they are known."""

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

    @cached_property
    def sha256(self) -> str:
        """Of the file, read when nobody knows it yet; of the parts' hashes, a line each, when there are several."""
        return one_hash(self.hashes or tuple(sha256_of(part) for part in self.parts))


# --- what is here ---------------------------------------------------------------------------------------------------


def list_models() -> list[StoredModel]:
    """Every whole model, by name. What is damaged is left out, logged, and told by `damaged`."""
    models, errors = whole_and_damaged()
    for error in errors:
        log.warning("%s", error)
    return models


def damaged() -> list[BadModelFile]:
    """A sentence for each name whose manifest or file is not whole."""
    return whole_and_damaged()[1]


def whole_and_damaged() -> tuple[list[StoredModel], list[BadModelFile]]:
    """What `list_models` and `damaged` tell, read once."""
    models, errors = [], []
    for manifest in manifest_files():
        try:
            models.append(_stored(read_manifest(manifest)))
        except BadModelFile as exc:
            errors += [exc] if manifest.exists() else []  # or it was removed just now
    return sorted(models, key=lambda model: model.name), errors


def installed(text: str) -> StoredModel:
    """The model of that name in the store, never a path. Raises UnknownModel with the nearest names, BadModelFile."""
    manifest = manifest_of(parse(text))
    if manifest is None:
        raise catalogue.unknown(text, installed_names())
    return _stored(read_manifest(manifest))


def resolve(text: str) -> StoredModel:
    """The model that a name or path means. Raises UnknownModel, BadModelFile; contacts nothing."""
    if found := find(text):
        return found
    _refuse_bare_file(text)
    raise catalogue.unknown(meant(text).text, installed_names())


def find(text: str) -> StoredModel | None:
    """As `resolve`, but None for a name that is not installed."""
    name = meant(text)
    if name.scheme == "file":
        return in_place(Path(name.where))
    manifest = manifest_of(name)
    return _stored(read_manifest(manifest)) if manifest else None


def meant(text: str) -> Name:
    """As `parse`; a file's name without a folder, where there is no such file, means the entry that it belongs to:
    programs that fetched it keep asking for it so."""
    name = parse(text)
    if name.scheme != "file" or Path(text.strip()).name != text.strip() or os.path.lexists(name.where):
        return name
    entry = catalogue.by_file(text.strip())
    return parse(entry.name) if entry else name


def _refuse_bare_file(text: str) -> None:
    """A file's name that might be a model's is taken for a model's; where there is such a file, say how to mean it."""
    if parse(text).scheme == "catalogue" and _is_readable_file(Path(text)):
        raise UnknownModel(
            f"There is no model {text}.", why="There is a file of that name.", do=f"`./{text}` means it."
        )


def in_place(path: Path) -> StoredModel:
    """A model outside the store, used where it lies. Missing, forbidden and no file at all give one and the same error,
    so that no caller learns which (Ollama, CVE-2024-39722)."""
    if not _is_readable_file(path):
        raise UnknownModel(f"There is no model file at {path}.", do="Check the path.")
    parts = parts_beside(path)
    projector = _projector_beside(parts)
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
        "architecture": first.architecture,
        "parameters": sum(header.parameters for header in headers),
        "context": first.context_length,
        "quantisation": first.quantisation,
        "tensor types": types,
        "bytes": stored.size_bytes,
        "licence": stored.licence or first.licence,
        "template": first.chat_template,
        "sha256": stored.sha256,
        "source": stored.source,
        "path": str(stored.path),
        "parts": len(stored.parts),
        "projector": str(stored.projector) if stored.projector else None,
    }


# --- getting and removing -------------------------------------------------------------------------------------------


def pull(text: str, options: DownloadOptions | None = None) -> Job[StoredModel]:
    """Get a model. Its name appears last, when every byte is checked and its header is read; a second run goes on
    where the first stopped. Raises UnknownModel, DownloadFailed, DiskFull, StoreReadOnly, OfflineRefused and
    BadModelFile."""
    name, options = meant(text), options or configured(DownloadOptions)
    if name.scheme == "file":
        there = in_place(Path(name.where))
        check_split(there.parts)
        return there
    try:
        entry = catalogue.find(name, installed_names()) if name.scheme == "catalogue" else None
    except UnknownModel:
        if installed_one := find(text):
            return installed_one
        _refuse_bare_file(text)
        raise
    full = entry.name if entry else name.text
    if whole := _whole(full):
        return whole
    need_network(full)
    yield Progress(f"looking up {full}")
    origin = parse(entry.source) if entry else name
    source = source_of(origin)
    listing = source.locate(origin, options)
    if entry:
        projector = source.locate(parse(entry.projector), options) if entry.projector else None
        listing = _as_promised(entry, listing, projector)
    return (yield from _bring(full, origin, source, listing, options))


def resolve_or_pull(text: str, watch: Watch = lambda event: None) -> StoredModel:
    """The model that a name means, to be loaded: pulled first when it is not here. Raises what `resolve` and `pull`
    raise, and EngineMissing rather than pull what cannot be loaded on this machine."""
    if found := find(text):
        return found
    if reason := unsupported_by_engine():
        raise EngineMissing(reason, do=f"`filbert pull {text}` fetches the model all the same.")
    return jobs.run("pull", {"name": text}, pull(text), watch)


def remove(text: str) -> int:
    """Take a name out of the store, with the files that no other name needs; the bytes that this frees.
    Raises UnknownModel, StoreBusy, StoreReadOnly. Files outside the store are never touched."""
    name = meant(text)
    if name.scheme == "file":
        raise BadInput(f"{text} is not in the store.", why="It is used where it lies.", do="Delete the file yourself.")
    manifest = manifest_of(name)
    if manifest is None:
        raise _not_installed(text)
    try:
        folders = {file.folder for file in read_manifest(manifest).files}
    except BadModelFile:
        folders = set()  # its files are left for `clean`
    with ExitStack() as held:
        for folder in sorted(folders):
            held.enter_context(locked(files_folder() / f"{folder}.lock", wait_s=0))
        if not manifest.is_file():  # another process was quicker
            raise _not_installed(text)
        freed = sum(_empty(folder) for folder in folders if not _needed(folder, besides=manifest))
        with disk_errors(manifest):
            manifest.unlink(missing_ok=True)  # last: what stops halfway still has a name to be removed by
        return freed


def _not_installed(text: str) -> UnknownModel:
    return UnknownModel(
        f"{text} is not installed.",
        why=catalogue.nearest_installed(text, installed_names()),
        do="`filbert list` shows what is.",
    )


def clean(kept_s: float = PART_KEPT_S) -> int:
    """Delete what no name needs: parts of pulls that were given up `kept_s` seconds ago, files whose manifest is gone,
    locks of both. The bytes it frees. A damaged manifest may need any file, so as long as there is one, all stay."""
    if read_manifests()[1]:
        return 0
    folders = {path.stem for path in files_folder().glob("*") if re.fullmatch(HEX, path.stem)}
    return sum(_tidy(folder, kept_s) for folder in sorted(folders))


def unfinished() -> list[int]:
    """The bytes of each folder that no name needs: of a pull that has not ended, or of a name that is gone."""
    folders = sorted(path for path in files_folder().glob("*") if path.is_dir() and not _needed(path.name))
    return [_size(folder) for folder in folders]


def one_hash(hashes: Sequence[str]) -> str:
    """The hash that stands for several files; that of the file where there is one."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


# --- from a manifest to a model -------------------------------------------------------------------------------------


def _stored(manifest: Manifest) -> StoredModel:
    for file in manifest.files:
        _check_there(manifest.name, file)
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
        hashes=tuple(file.sha256 for file in parts),
    )


def _check_there(name: str, file: Kept) -> None:
    inside = file.path.resolve().is_relative_to(files_folder().resolve())
    if not inside or not file.path.is_file() or file.path.stat().st_size != file.size_bytes:
        raise BadModelFile(
            f"{name} is not whole.",
            why=f"{file.name} is missing from the store, or was changed.",
            do=f"`filbert pull {name}` mends it.",
        )


def _whole(text: str) -> StoredModel | None:
    manifest = manifest_file(text)
    try:
        return _stored(read_manifest(manifest)) if manifest.is_file() else None
    except BadModelFile:
        return None


# --- the steps of a pull --------------------------------------------------------------------------------------------


def _as_promised(entry: catalogue.Entry, listing: Listing, projector: Listing | None) -> Listing:
    """What the source offers, held against the catalogue's hashes and sizes."""
    files = [file for file in listing.files if file.role != "projector"]
    files += [replace(projector.files[0], role="projector")] if projector else []
    if len(files) != len(entry.files) or any(map(_differs, files, entry.files)):
        raise UnknownModel(
            f"The source of {entry.name} no longer has the files of the catalogue.",
            do=f"`filbert pull {entry.source}` gets what it has now.",
        )
    kept = (
        replace(
            file,
            name=known.name,
            sha256=known.sha256 or file.sha256,
            size_bytes=file.size_bytes if known.size_bytes is None else known.size_bytes,
        )
        for file, known in zip(files, entry.files, strict=True)
    )
    return replace(listing, files=tuple(kept), licence=entry.licence or listing.licence)


def _differs(file: RemoteFile, known: catalogue.Listed) -> bool:
    """Whether both sides know a hash, or a size, and it is not the same."""
    hashes, sizes = {file.sha256, known.sha256} - {"", None}, {file.size_bytes, known.size_bytes} - {None}
    return len(hashes) > 1 or len(sizes) > 1


def _folders(files: Sequence[RemoteFile]) -> list[str]:
    """The folder of each file: one for the model with all its parts, one for the projector."""

    def key(group: Sequence[RemoteFile]) -> str:
        hashes = [file.sha256 for file in group]
        return (
            one_hash(hashes)
            if all(hashes)
            else hashlib.sha256("\n".join(file.url for file in group).encode()).hexdigest()
        )

    model = key([file for file in files if file.role != "projector"])
    return [key([file]) if file.role == "projector" else model for file in files]


def _bring(full: str, origin: Name, source: Source, listing: Listing, options: DownloadOptions) -> Job[StoredModel]:
    """Fetch every file of a listing under its lock, and install them as `full`."""
    folders = _folders(listing.files)
    with ExitStack() as held:
        for folder in sorted(set(folders)):
            yield from _hold(files_folder() / f"{folder}.lock", held)
        if whole := _whole(full):  # another process was quicker
            return whole
        kept, pins = [], _pins(full)
        for remote, folder in zip(listing.files, folders, strict=True):
            remote = remote if remote.sha256 else replace(remote, sha256=pins.get(remote.name, ""))
            target = files_folder() / folder / safe_name(remote.name)
            got = yield from source.fetch(remote, target, options)
            size = target.stat().st_size
            kept.append(Kept(role=got.role, name=got.name, size_bytes=size, sha256=got.sha256, folder=folder))
        yield Progress("reading the header")
        _install(full, origin, listing, kept)
    return installed(full)


def _pins(full: str) -> dict[str, str]:
    """The hashes that the first pull of a name found: mending it brings the same bytes or none."""
    try:
        return {file.name: file.sha256 for file in read_manifest(manifest_file(full)).files}
    except BadModelFile:
        return {}


def _hold(lock: Path, held: ExitStack) -> Job[None]:
    """Wait for a lock as long as it takes, saying so."""
    while True:
        try:
            held.enter_context(locked(lock, wait_s=1))
            return
        except StoreBusy:
            yield Progress("waiting for another process that pulls this model")


def _install(name: str, origin: Name, listing: Listing, kept: Sequence[Kept]) -> None:
    """Give a fetched model its name, once its headers make sense; what is no model goes."""
    parts = [file.path for file in kept if file.role != "projector"]
    try:
        header = check_split(parts)[0]
        for file in kept:
            if file.role == "projector":
                read_header(file.path)
    except BadModelFile:
        for folder in {file.folder for file in kept}:
            if not _needed(folder):
                _empty(folder)
        raise
    manifest = Manifest(
        name=name,
        source=origin.text,
        revision=listing.revision,
        licence=listing.licence or header.licence or "",
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(kept),
    )
    with write_whole(manifest_file(name)) as file_:
        file_.write(manifest.model_dump_json(indent=1).encode())


# --- folders --------------------------------------------------------------------------------------------------------


def _needed(folder: str, besides: Path | None = None) -> bool:
    """Whether any other manifest mentions the folder, even one too damaged to be read."""
    return any(folder in _text(path) for path in manifest_files() if path != besides)


def _text(manifest: Path) -> str:
    try:
        return manifest.read_text("utf-8", errors="replace")
    except FileNotFoundError:  # its name was removed just now
        return ""


def _tidy(folder: str, kept_s: float) -> int:
    """Delete a folder that nobody needs, and then its lock; the bytes this frees."""
    lock = files_folder() / f"{folder}.lock"
    try:
        with locked(lock, wait_s=0):
            freed = 0 if _needed(folder) or _resumable(folder, kept_s) else _empty(folder)
            if not (files_folder() / folder).exists():
                with suppress(PermissionError):  # Windows keeps what is open
                    lock.unlink()  # the last act under it: who waits for it sees that it is gone, and makes another
            return freed
    except StoreBusy:  # it is being pulled now
        return 0


def _resumable(folder: str, kept_s: float) -> bool:
    """Whether a pull stopped here so lately that somebody may go on with it."""
    parts = (files_folder() / folder).glob("*.part")
    return any(abs(time.time() - part.lstat().st_mtime) < kept_s for part in parts)  # a clock may have been set back


def _empty(folder: str) -> int:
    path = files_folder() / folder
    size = _size(path)
    with disk_errors(path), suppress(FileNotFoundError):
        if path.is_symlink() or path.is_file():  # no folder of ours: what a link leads to is not touched
            path.unlink()
        else:
            shutil.rmtree(path)
    return size


def _size(folder: Path) -> int:
    return 0 if folder.is_symlink() else sum(file.lstat().st_size for file in folder.glob("*"))


def _is_readable_file(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return False


def _projector_beside(parts: Sequence[Path]) -> Path | None:
    """The projector in a folder that holds one model and one projector: any other pair would be a guess."""
    files = [path for path in parts[0].parent.glob("*.gguf") if path not in parts]
    projectors = [path for path in files if "mmproj" in path.name.lower()]
    return projectors[0] if len(files) == len(projectors) == 1 and "mmproj" not in parts[0].name.lower() else None
