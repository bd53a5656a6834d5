"""Getting a model: from its source, whole and checked, to a name in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from filbert.core import jobs
from filbert.core.errors import BadModelFile, EngineMissing, StoreBusy, UnknownModel
from filbert.core.files import locked, safe_name
from filbert.core.jobs import Job, Progress, Watch
from filbert.core.machine import unsupported_by_engine
from filbert.core.settings import configured
from filbert.models import catalogue, preset
from filbert.models.choice import Choice, choose
from filbert.models.download_options import DownloadOptions
from filbert.models.gguf import check_split, read_header
from filbert.models.installed import (
    StoredModel,
    find,
    in_place,
    installed,
    meant,
    refuse_bare_file,
    resolve,
    whole_model,
)
from filbert.models.manifest import (
    Kept,
    Manifest,
    files_folder,
    installed_names,
    manifest_file,
    one_hash,
    read_manifest,
    write_manifest,
)
from filbert.models.name import Name, divided, parse
from filbert.models.remote import RemoteFile, need_network
from filbert.models.remove import empty, needed
from filbert.models.sources import Listing, Source, source_of


def pull(
    text: str,
    options: DownloadOptions | None = None,
    choice: Choice | None = None,
    threads: int | None = None,
) -> Job[StoredModel]:
    """Get a model; of several quantisations that it may mean, the best for this machine with so many threads, or the
    one of `choice`. Its name appears last, when every byte is checked and its header is read; a second run goes on
    where the first stopped. Raises UnknownModel, DownloadFailed, DiskFull, StoreReadOnly, OfflineRefused, BadModelFile,
    and BadInput where no quantisation fits."""
    name, options = meant(text), options or configured(DownloadOptions)
    if name.scheme == "file":
        there = in_place(Path(name.where))
        check_split(there.parts)
        return there
    if not choice and (choice := choose(text, options, threads)):  # who chose before has told it
        yield Progress(choice.why)
    picked = parse(choice.name) if choice else name
    try:
        entry = catalogue.find(picked, installed_names()) if name.scheme == "catalogue" else None
    except UnknownModel:
        if installed_one := find(text):
            return installed_one
        refuse_bare_file(text)
        raise
    full = entry.name if entry else name.text
    if whole := whole_model(full):
        return whole
    need_network(full)
    yield Progress(f"looking up {full}")
    origin = parse(entry.source) if entry else picked
    source = source_of(origin)
    listing = source.locate(origin, options)
    if entry:
        projector = source.locate(parse(entry.projector), options) if entry.projector else None
        listing = as_promised(entry, listing, projector)
    return (yield from _bring(full, origin, source, listing, options))


def resolve_or_pull(
    text: str,
    watch: Watch = lambda event: None,
    choice: Choice | None = None,
    threads: int | None = None,
) -> StoredModel:
    """The model that a name means, to be loaded: pulled first when it is not here. Raises what `resolve` and `pull`
    raise, and EngineMissing rather than pull what cannot be loaded on this machine."""
    if found := find(text):
        return found
    if reason := unsupported_by_engine():
        raise EngineMissing(reason, do=f"`filbert pull {text}` fetches the model all the same.")
    base, *adapters = divided(text)
    for name in (base, *adapters):
        if not find(name):
            job = pull(name, None, choice if name == base else None, threads)
            jobs.run("pull", {"name": name}, job, watch)
    return resolve(text)


def as_promised(entry: catalogue.Entry, listing: Listing, projector: Listing | None) -> Listing:
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
            md5=known.md5 or "",
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
        if whole := whole_model(full):  # another process was quicker
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
            if not needed(folder):
                empty(folder)
        raise
    manifest = Manifest(
        name=name,
        source=origin.text,
        revision=listing.revision,
        licence=listing.licence or header.licence or "",
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=header.kind,
        files=tuple(kept),
    )
    preset.forget_orphan(name)
    write_manifest(manifest)
