"""What doors print: results to standard output, notes and progress to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from filbert.core.errors import BadInput
from filbert.core.jobs import Progress, Watch
from filbert.core.settings import Settings

LINE_EVERY_S = 2.0


def say(text: str = "", end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def note(text: str, settings: Settings) -> None:
    if not settings.quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() else text


def piped_text() -> str:
    """What was piped in, or "" on a terminal. Raises BadInput when it is not UTF-8."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadInput(
            "Standard input is not UTF-8 text.",
            why=f"Byte {exc.object[exc.start]:#04x} at {exc.start}.",
            do="Convert it with iconv.",
        ) from exc


@contextmanager
def progress(settings: Settings) -> Iterator[Watch]:
    """A bar on a terminal, a line now and then in a pipe, nothing with --quiet."""
    if settings.quiet:
        yield lambda event: None
    elif sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    bytes_only = (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), *bytes_only, TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(event: Progress) -> None:
            if event.step not in tasks:
                tasks[event.step] = bars.add_task(event.step, total=event.total)
            bars.update(tasks[event.step], completed=event.done, total=event.total)

        yield watch


def _lines() -> Watch:
    last = monotonic()
    step = ""

    def watch(event: Progress) -> None:
        nonlocal last, step
        if event.step == step and monotonic() - last < LINE_EVERY_S and event.done != event.total:
            return
        if event.step != step or event.total:
            sys.stderr.write(f"{event.step}{_share(event)}\n")
            sys.stderr.flush()
        last, step = monotonic(), event.step

    return watch


def _share(event: Progress) -> str:
    if not event.total:
        return ""
    of = f" of {size(event.total)}" if event.unit == "bytes" else f" of {event.total:g} {event.unit}".rstrip()
    return f": {100 * event.done / event.total:.0f} %{of}"


def size(size_bytes: float) -> str:
    """Bytes for people, in powers of ten as disks are sold."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= bytes_each:
            return f"{size_bytes / bytes_each:.2f} {unit}" if unit == "GB" else f"{size_bytes / bytes_each:.0f} {unit}"
    return f"{size_bytes:.0f} bytes"
