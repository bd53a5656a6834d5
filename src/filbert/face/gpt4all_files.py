"""Where a program written for gpt4all finds its model: its own folder first, then Filbert's store and catalogue."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from filbert.core import jobs
from filbert.core.errors import UnknownModel
from filbert.core.files import disk_errors
from filbert.models import catalogue, store
from filbert.models.adopt.gpt4all import package_folder
from filbert.models.catalogue import Entry

MEMORY_SIZES_GB = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512)

Config = dict[str, Any]


def file_name(model_name: str) -> str:
    return model_name if model_name.endswith((".bin", ".gguf")) else f"{model_name}.gguf"


def in_folder(model_name: str, model_path: str | os.PathLike[str] | None) -> Path:
    """Where the file is, or would be. Raises FileNotFoundError for a folder that was named and is not there."""
    if model_path is None:
        return package_folder() / file_name(model_name)
    folder = Path(model_path)
    if not folder.exists():
        raise FileNotFoundError(f"Model directory does not exist: {folder!r}")
    return folder / file_name(model_name)


def in_store(model_name: str) -> Path | None:
    """The file of a name that Filbert has installed: one of its own names, or the name of the file."""
    for text in (file_name(model_name), model_name):
        with suppress(UnknownModel):
            if found := store.find(text):
                return found.path
    return None


def pulled(model_name: str) -> Path:
    """Fetch it into Filbert's store. Raises UnknownModel with the nearest names, DownloadFailed, OfflineRefused."""
    entry = catalogue.by_file(file_name(model_name))
    name = entry.name if entry else model_name
    return jobs.run("pull", {"name": name}, store.pull(name), lambda event: None).path


def put_at(path: Path, target: Path) -> Path:
    """The stored file under another name: a link where the disk allows one, so that nothing is held twice."""
    part = target.with_name(f"{target.name}.part")
    with disk_errors(target):
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:  # another disk
            shutil.copyfile(path, part)
        part.replace(target)
    return target


def check_download(path: Path, expected_size: int | None, expected_md5: str | None) -> None:
    """Raises ValueError, as the original does."""
    if expected_size is not None and path.stat().st_size != expected_size:
        raise ValueError(f"Expected file size of {expected_size} bytes, got {path.stat().st_size}")
    if expected_md5 is not None and (found := _md5(path)) != expected_md5.lower():
        raise ValueError(f"Expected MD5 hash of {expected_md5!r}, got {found!r}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def listed() -> list[Config]:
    """The catalogue in the shape of GPT4All's list: models of one file whose size is known."""
    entries = (entry for entry in catalogue.entries() if len(entry.files) == 1 and entry.size_bytes)
    return [_config(number, entry) for number, entry in enumerate(entries)]


def config_of(filename: str) -> Config:
    return next((config for config in listed() if config["filename"] == filename), {})


def _config(number: int, entry: Entry) -> Config:
    size_bytes = entry.size_bytes or 0
    sha256 = entry.files[0].sha256
    return {
        "order": f"{number:03}",
        "name": entry.short,
        "filename": entry.files[0].name,
        "filesize": str(size_bytes),
        "ramrequired": str(_memory_gb(size_bytes)),
        "parameters": _in_words(entry.parameters),
        "quant": entry.name.rpartition("-")[2],
        "type": entry.name.partition(":")[0],
        "url": entry.source,
        "description": " ".join(entry.capabilities),
        **({"sha256sum": sha256} if sha256 else {}),
        **({"embeddingModel": True} if "embed" in entry.capabilities else {}),
    }


def _memory_gb(size_bytes: int) -> int:
    """The smallest usual amount that holds the file and a quarter more."""
    return next(size for size in MEMORY_SIZES_GB if size * 10**9 >= size_bytes * 1.25 or size == MEMORY_SIZES_GB[-1])


def _in_words(parameters: int | None) -> str:
    if parameters is None:
        return ""
    return f"{parameters / 1e9:g} billion" if parameters >= 10**9 else f"{parameters / 1e6:g} million"


def tell(text: str, verbose: bool) -> None:
    if verbose:
        sys.stderr.write(f"{text}\n")
