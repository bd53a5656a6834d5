"""One file from the web, whole and checked, or a part that the next run goes on with.

Beside the target lie `NAME.part`, the bytes so far, and `NAME.part.json`, which of them are there, and of what size and
version the whole is. A part is gone on with only while both agree. The caller holds a lock on the target.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import httpx

from filbert.core.errors import DownloadFailed, FilbertError, HashMismatch
from filbert.core.files import disk_errors, move_whole, need_room, write_whole
from filbert.core.jobs import Job, Progress
from filbert.core.settings import configured
from filbert.models.download_options import DownloadOptions
from filbert.models.remote import RemoteFile, need_network
from filbert.models.web import (
    Changed,
    Interrupted,
    Offer,
    ask,
    check_same,
    insist,
    web_client,
    web_errors,
)

SMALLEST_SEGMENT = 1 << 20  # bytes; below, another connection costs more than it brings
SAVE_EVERY_S = 1.0
LOOK_EVERY_S = 0.2


def download(remote: RemoteFile, target: Path, options: DownloadOptions | None = None) -> Job[RemoteFile]:
    """Fetch `remote` to `target`; returns it with its size and sha256. Raises DownloadFailed, HashMismatch, DiskFull,
    OfflineRefused. A target that is there already is checked, and kept when its hash is right."""
    options = options or configured(DownloadOptions)
    if there := (yield from already_there(remote, target)):
        return there
    need_network(remote.name)
    with web_client(remote.url, options) as client:
        for _ in range(2):
            yield Progress("asking for " + remote.name)
            offer = yield from insist(lambda: ask(client, remote), options, time.sleep)
            transfer = Transfer(client, remote, offer, target, options)
            try:
                yield from transfer.run()
            except Changed:
                transfer.forget()
                continue
            return (yield from _finish(replace(remote, sha256=remote.sha256 or transfer.offer.sha256), target))
    raise DownloadFailed(f"{remote.name} changed on the server while it was downloaded.", do="Run the command again.")


def already_there(remote: RemoteFile, target: Path) -> Job[RemoteFile | None]:
    """The finished file of an earlier run, if it is the one that is wanted. It had its name only once it was checked,
    so where no hash is known its own will do."""
    if not target.exists():
        return None
    sha256 = yield from hashing(target)
    return replace(remote, sha256=sha256, size_bytes=target.stat().st_size) if remote.sha256 in ("", sha256) else None


def hashing(path: Path, kind: str = "sha256") -> Job[str]:
    """The hash of a file, with progress."""
    digest, done, total = hashlib.new(kind, usedforsecurity=False), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            yield Progress("checking", done, total, "bytes")
    return digest.hexdigest()


def check_hash(name: str, expected: str, got: str, kind: str = "sha256") -> None:
    if expected not in ("", got):
        raise HashMismatch(
            f"{name} is not the file it should be.",
            why=f"Its {kind} is {got[:16]}… and {expected[:16]}… was promised.",
            do="Nothing of it was kept; try again, or another source.",
        )


def _finish(remote: RemoteFile, target: Path) -> Job[RemoteFile]:
    part = part_of(target)
    sha256 = yield from hashing(part)
    md5 = (yield from hashing(part, "md5")) if remote.md5 else ""
    try:
        check_hash(remote.name, remote.sha256, sha256)
        check_hash(remote.name, remote.md5, md5, "md5")
    except HashMismatch:
        part.unlink()
        state_of(target).unlink(missing_ok=True)
        raise
    with disk_errors(target):
        move_whole(part, target)
        state_of(target).unlink(missing_ok=True)
    return replace(remote, sha256=sha256, size_bytes=target.stat().st_size)


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def state_of(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


@dataclass(slots=True)
class Segment:
    """Bytes [start, end) of the file, of which [start, at) are on the disk. end None: as far as the server sends."""

    start: int
    at: int
    end: int | None

    @property
    def finished(self) -> bool:
        return self.end is not None and self.at >= self.end


def cut(size_bytes: int | None, pieces: int) -> list[Segment]:
    """One segment a connection, none smaller than SMALLEST_SEGMENT."""
    if size_bytes is None:
        return [Segment(0, 0, None)]
    pieces = max(1, min(pieces, size_bytes // SMALLEST_SEGMENT))
    edges = [size_bytes * piece // pieces for piece in range(pieces + 1)]
    return [Segment(start, start, end) for start, end in pairwise(edges)]


def saved(target: Path, offer: Offer, hash_known: bool) -> list[Segment] | None:
    """The segments of an earlier run, if they are of the file that is offered now."""
    try:
        state = json.loads(state_of(target).read_text("utf-8"))
        segments = [Segment(*(int(edge) for edge in segment)) for segment in state["segments"]]
        same = (state["size_bytes"], state["validator"]) == (offer.size_bytes, offer.validator)
        written = part_of(target).stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    edges = [0, *(segment.end for segment in segments)]
    whole = edges[:-1] == [segment.start for segment in segments] and edges[-1] == offer.size_bytes
    sound = all(s.start <= s.at <= (s.end or 0) and (s.at == s.start or s.at <= written) for s in segments)
    return segments if same and whole and sound and offer.ranges and (offer.validator or hash_known) else None


class Transfer:
    """One file on its way: its segments, and a thread for each that is being fetched. A thread reports its retries,
    and then how it ended: None, or what stopped it."""

    def __init__(
        self, client: httpx.Client, remote: RemoteFile, offer: Offer, target: Path, options: DownloadOptions
    ) -> None:
        self.client, self.remote, self.offer, self.options = client, remote, offer, options
        self.target, self.part = target, part_of(target)
        self.segments = saved(target, offer, bool(remote.sha256)) or self._afresh()
        self._waiting = deque(segment for segment in self.segments if not segment.finished)
        self._stop = threading.Event()
        self._reports: queue.SimpleQueue[Progress | Exception | None] = queue.SimpleQueue()

    def run(self) -> Job[None]:
        """Fetch what is missing. Raises Changed, DownloadFailed, DiskFull; whatever happens, the part is kept."""
        if self.offer.size_bytes is not None:
            need_room(self.target.parent, self.offer.size_bytes - self.done)
        running = min(self.options.connections, len(self._waiting))
        workers = [threading.Thread(target=self._work, name="filbert-download", daemon=True) for _ in range(running)]
        for worker in workers:
            worker.start()
        saved_at = time.monotonic()
        try:
            while running:
                yield Progress("downloading", self.done, self.offer.size_bytes, "bytes")
                with contextlib.suppress(queue.Empty):
                    report = self._reports.get(timeout=LOOK_EVERY_S)
                    if isinstance(report, Exception):
                        raise report
                    if report is None:
                        running -= 1
                    else:
                        yield report
                if time.monotonic() - saved_at > SAVE_EVERY_S:
                    self.save()
                    saved_at = time.monotonic()
            yield Progress("downloading", self.done, self.offer.size_bytes, "bytes")
        finally:
            self._stop.set()
            for worker in workers:
                worker.join(LOOK_EVERY_S)
            self.save()

    @property
    def done(self) -> int:
        return sum(segment.at - segment.start for segment in self.segments)

    def save(self) -> None:
        """Note which bytes are there, after they have reached the disk."""
        segments = [[segment.start, segment.at, segment.end] for segment in self.segments]
        with disk_errors(self.part), self.part.open("r+b") as file:
            os.fsync(file.fileno())
        with write_whole(state_of(self.target)) as file:
            state = {"size_bytes": self.offer.size_bytes, "validator": self.offer.validator, "segments": segments}
            file.write(json.dumps(state).encode())

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        state_of(self.target).unlink(missing_ok=True)

    def _afresh(self) -> list[Segment]:
        with disk_errors(self.part):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            self.part.write_bytes(b"")
        return cut(self.offer.size_bytes, self.options.connections if self.offer.ranges else 1)

    def _work(self) -> None:
        try:
            while self._waiting and not self._stop.is_set():
                self._bring(self._waiting.popleft())
            self._reports.put(None)
        except (FilbertError, Changed, OSError, IndexError) as exc:  # an IndexError: another worker was quicker
            self._reports.put(None if isinstance(exc, IndexError) else exc)

    def _bring(self, segment: Segment) -> None:
        gained = (lambda: segment.at) if self.offer.ranges else (lambda: 0)  # without ranges each try begins at 0
        for retry in insist(lambda: self._stream(segment), self.options, self._stop.wait, gained):
            self._reports.put(retry)

    def _stream(self, segment: Segment) -> None:
        """Fetch the rest of a segment, in one request."""
        if self._stop.is_set():
            return
        headers = dict(self.remote.headers)
        if self.offer.ranges:
            headers["Range"] = f"bytes={segment.at}-{(segment.end or 0) - 1}"
        else:
            segment.at = 0
        with web_errors(self.remote.name), self.client.stream("GET", self.remote.url, headers=headers) as answer:
            check_same(answer, self.offer, segment.at, self.remote.name)
            with disk_errors(self.part), self.part.open("r+b") as file:
                file.seek(segment.at)
                self._write(answer, segment, file)
        if segment.end is None:
            segment.end = segment.at
        if segment.at < segment.end and not self._stop.is_set():
            raise Interrupted("The connection ended early.")

    def _write(self, answer: httpx.Response, segment: Segment, file: BinaryIO) -> None:
        for block in answer.iter_raw():
            if self._stop.is_set():
                return
            wanted = block if segment.end is None else block[: segment.end - segment.at]
            file.write(wanted)
            file.flush()
            segment.at += len(wanted)
            if len(wanted) < len(block):
                return
