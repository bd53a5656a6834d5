"""Taking names out of the store, with the files that no other name needs."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from filbert.core.errors import BadInput, BadModelFile, StoreBusy, UnknownModel
from filbert.core.files import disk_errors, locked
from filbert.core.sha256 import is_sha256
from filbert.models import catalogue, preset
from filbert.models.installed import meant
from filbert.models.manifest import (
    files_folder,
    installed_names,
    manifest_files,
    manifest_of,
    read_manifest,
    read_manifests,
)
from filbert.models.name import parse

PART_KEPT_S = 7 * 86400


def remove(text: str) -> int:
    """Take a name out of the store, with the files that no other name needs; the bytes that this frees.
    Raises UnknownModel, StoreBusy, StoreReadOnly. Files outside the store are never touched; nor is the model that a
    name of a person's own stands for."""
    if preset.is_stand_in(text):
        preset.forget(parse(text).text)
        return 0
    name = meant(text)
    if name.scheme == "file":
        raise BadInput(f"{text} is not in the store.", why="It is used where it lies.", do="Delete the file yourself.")
    manifest = manifest_of(name)
    if manifest is None:
        raise _not_installed(text)
    try:
        folders = {file.folder for file in read_manifest(manifest).files if file.folder}
    except BadModelFile:
        folders = set()  # its files are left for `clean`
    with ExitStack() as held:
        for folder in sorted(folders):
            held.enter_context(locked(files_folder() / f"{folder}.lock", wait_s=0))
        if not manifest.is_file():  # another process was quicker
            raise _not_installed(text)
        freed = sum(empty(folder) for folder in folders if not needed(folder, besides=manifest))
        preset.forget_beside(manifest)
        with disk_errors(manifest):
            manifest.unlink(missing_ok=True)  # last: what stops halfway still has a name to be removed by
        return freed


def standing_on(text: str) -> list[str]:
    """The names of people's own that no longer mean anything once this one is removed."""
    if preset.is_stand_in(text):
        return preset.standing_on(parse(text).text)
    manifest = manifest_of(meant(text))
    try:
        return preset.standing_on(read_manifest(manifest).name) if manifest else []
    except BadModelFile:  # it stands for nothing already
        return []


def linked(text: str) -> list[Path]:
    """The files of other programs that a name stands for. They stay when it is removed."""
    manifest = manifest_of(meant(text))
    try:
        return [file.path for file in read_manifest(manifest).files if not file.folder] if manifest else []
    except BadModelFile:
        return []


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
    folders = {path.stem for path in files_folder().glob("*") if is_sha256(path.stem)}
    return sum(_tidy(folder, kept_s) for folder in sorted(folders))


def unfinished() -> list[int]:
    """The bytes of each folder that no name needs: of a pull that has not ended, or of a name that is gone."""
    folders = sorted(path for path in files_folder().glob("*") if path.is_dir() and not needed(path.name))
    return [_size(folder) for folder in folders]


def needed(folder: str, besides: Path | None = None) -> bool:
    """Whether any other manifest keeps a file in the folder; one too damaged to be read, where it mentions it."""
    return any(_keeps(path, folder) for path in manifest_files() if path != besides and folder in _text(path))


def _keeps(manifest: Path, folder: str) -> bool:
    try:
        return any(file.folder == folder for file in read_manifest(manifest).files)
    except BadModelFile:
        return True


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
            freed = 0 if needed(folder) or _resumable(folder, kept_s) else empty(folder)
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


def empty(folder: str) -> int:
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
