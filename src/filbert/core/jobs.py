"""Long work is a job: a generator of Progress, run by `run`, which keeps its story in a folder.

    <jobs>/<id>/job.json       what it is, when it began, how it stands: running, done, failed, cancelled
    <jobs>/<id>/events.jsonl   its progress, a line an event

Cancel is SIGTERM or Ctrl-C; to resume is to run it again, since every job keeps its own parts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from uuid import uuid4

from filbert.core import paths
from filbert.core.errors import Cancelled, FilbertError
from filbert.core.files import write_whole

KEPT = 50  # finished jobs whose folders stay
EVENTS_PER_S = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: `done` of `total` `unit`s; total None while nobody knows."""

    step: str
    done: float = 0
    total: float | None = None
    unit: str = ""


T = TypeVar("T")
Job = Generator[Progress, None, T]
Watch = Callable[[Progress], None]


def finish(job: Job[T], watch: Watch = lambda event: None) -> T:
    """Run a job to its end in the caller's own time, without a folder. Raises what the job raises."""
    while True:
        try:
            watch(next(job))
        except StopIteration as end:
            value: T = end.value
            return value


def run(kind: str, about: dict[str, Any], job: Job[T], watch: Watch) -> T:
    """Run a job to its end, telling `watch` and the job's folder. Raises what the job raises; Cancelled on SIGTERM."""
    with record(kind, about) as tell, terminated_as_cancelled():
        try:
            while True:
                event = next(job)
                tell(event)
                watch(event)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            job.close()


@contextmanager
def record(kind: str, about: dict[str, Any]) -> Iterator[Watch]:
    """Keep a job's folder. A store that cannot be written keeps none, and the job runs."""
    folder = paths.jobs_folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{kind}-{uuid4().hex[:6]}"
    story = {"id": folder.name, "kind": kind, "about": about, "pid": os.getpid(), "began": _now(), "state": "running"}
    try:
        folder.mkdir(parents=True)
        _write(folder, story)
        events = (folder / "events.jsonl").open("a", encoding="utf-8")
    except (OSError, FilbertError):
        yield lambda event: None
        return
    last, step = 0.0, ""

    def tell(event: Progress) -> None:
        nonlocal last, step
        news = event.step != step or event.done == event.total
        if news or time.monotonic() - last > 1 / EVENTS_PER_S:
            last, step = time.monotonic(), event.step
            with suppress(OSError):
                events.write(json.dumps({"at": _now(), **asdict(event)}) + "\n")
                events.flush()

    state, error = "done", ""
    try:
        yield tell
    except (KeyboardInterrupt, Cancelled):
        state = "cancelled"
        raise
    except BaseException as exc:
        state, error = "failed", str(exc)
        raise
    finally:
        with suppress(OSError, FilbertError):
            events.close()
            _write(folder, story | {"state": state, "ended": _now()} | ({"error": error} if error else {}))
            _forget_old()


@contextmanager
def terminated_as_cancelled() -> Iterator[None]:
    """Turn SIGTERM into Cancelled while a job runs in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def cancel(signum: int, frame: FrameType | None) -> None:
        raise Cancelled("Stopped before it was done.", do="Run it again to go on where it stopped.")

    before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write(folder: Path, story: dict[str, Any]) -> None:
    with write_whole(folder / "job.json") as file:
        file.write(json.dumps(story, indent=1, default=str).encode())


def _forget_old() -> None:
    """Keep the newest folders of jobs that are over; one that still runs stays whatever its age."""
    folders = sorted(path for path in paths.jobs_folder().iterdir() if path.is_dir())
    for folder in folders[:-KEPT]:
        if not _runs(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(folder: Path) -> bool:
    """A story that is missing or damaged is of a job that was killed long ago."""
    import psutil  # only once there are more jobs than are kept

    try:
        story = json.loads((folder / "job.json").read_text("utf-8"))
        return bool(story["state"] == "running" and psutil.pid_exists(story["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
