"""llama.cpp's own converters, out of the source archive of the engine that is installed: what converts is what runs.

The archive is fetched once from the package index, and its sha256 is known to us; of it only the converters are
unpacked. Nothing of it is built, and they run in a process of their own (`convert.py`).
"""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from filbert.core import paths
from filbert.core.errors import BadModelFile, OfflineRefused
from filbert.core.files import disk_errors, locked, size, write_whole
from filbert.core.jobs import Job, Progress
from filbert.core.settings import Settings, configured
from filbert.engine import capi_layout
from filbert.models.download import download
from filbert.models.download_options import DownloadOptions
from filbert.models.remote import FORBIDDEN, RemoteFile
from filbert.models.sources.wheel import sdist_address

PACKAGE = "xllamacpp"
ARCHIVE = f"{PACKAGE}-{capi_layout.VERSION}.tar.gz"
ARCHIVE_BYTES = 38e6
WANTED = (
    *("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion", "gguf-py/gguf", "LICENSE"),
    *("models/templates", "models/ggml-vocab-gpt-neox.gguf", "models/ggml-vocab-llama-spm.gguf"),
)
DONE = "complete"


def folder() -> Path:
    return paths.converters_folder() / capi_layout.VERSION


def fetched(options: DownloadOptions) -> Job[Path]:
    """The folder with the converters, fetched where they are not here. Raises DownloadFailed, HashMismatch,
    OfflineRefused, DiskFull."""
    with locked(folder().with_name(f"{capi_layout.VERSION}.lock")):
        if not (folder() / DONE).exists():
            archive = folder() / ARCHIVE
            yield from _fetch(archive, options)
            yield Progress("unpacking the converters")
            unpack(archive)
            archive.unlink()
    return folder()


def _fetch(archive: Path, options: DownloadOptions) -> Job[None]:
    if configured(Settings).offline:
        raise OfflineRefused(
            f"llama.cpp's converters of {capi_layout.VERSION} are not on this machine.",
            why=FORBIDDEN,
            do=f"Convert a model once with the network: {size(ARCHIVE_BYTES)} are fetched.",
        )
    yield Progress(f"looking up {ARCHIVE}")
    url = sdist_address(PACKAGE, capi_layout.VERSION)
    yield from download(RemoteFile("model", ARCHIVE, url, sha256=capi_layout.ARCHIVE_SHA256), archive, options)


def unpack(archive: Path) -> None:
    """Into the folder it lies in. Raises BadModelFile for an archive without converters."""
    root = PurePosixPath(archive.name.removesuffix(".tar.gz"), "thirdparty/llama.cpp")
    with disk_errors(archive), tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not (member.isfile() and path.is_relative_to(root)):
                continue
            inside = path.relative_to(root)
            if ".." not in inside.parts and any(inside.is_relative_to(wanted) for wanted in WANTED):
                source = tar.extractfile(member)
                assert source
                with write_whole(archive.parent / inside) as file:
                    file.write(source.read())
    if missing := [wanted for wanted in WANTED if not (archive.parent / wanted).exists()]:
        raise BadModelFile(f"{archive.name} has no {missing[0]}.", do="Tell us, with the version.")
    with write_whole(archive.parent / DONE) as file:
        file.write(b"")
