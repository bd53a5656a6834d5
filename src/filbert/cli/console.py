"""What doors print: results to standard output, notes and progress to standard error."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

from filbert.core.errors import Cancelled, DiskFull
from filbert.core.files import read_text, size
from filbert.core.jobs import Progress, Watch
from filbert.core.settings import Settings

LINE_EVERY_S = 2.0
PATIENCE_S = 2.0
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def say(text: str = "", end: str = "\n") -> None:
    _write(sys.stdout, without_controls(text, sys.stdout) + end)


def line_width() -> int | None:
    """Characters of a line on a terminal; None in a pipe, which takes any."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say_dim(text: str) -> None:
    _write(sys.stdout, f"\x1b[2m{without_controls(text, sys.stdout)}\x1b[0m")


def cut(text: str, most: int) -> str:
    """A text of at most so many characters, which says when it has no more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def put(text: str) -> None:
    """Text that may drive the terminal: what others said was made harmless before."""
    _write(sys.stdout, text)


def note(text: str, settings: Settings) -> None:
    if not settings.quiet:
        _write(sys.stderr, without_controls(text, sys.stderr) + "\n")


def hint(text: str, settings: Settings) -> None:
    """A note that nobody needs to read."""
    dims = sys.stderr.isatty() and has_colours()
    if not settings.quiet:
        plain = without_controls(text, sys.stderr)
        _write(sys.stderr, f"\x1b[2m{plain}\x1b[0m\n" if dims else f"{plain}\n")


def has_colours() -> bool:
    return os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _write(stream: TextIO, text: str) -> None:
    """Raises BrokenPipeError when nobody reads any more, DiskFull when what reads has no room."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python complains once more at exit
        if isinstance(exc, BrokenPipeError):
            raise
        raise DiskFull("What was found out cannot be written.", why=f"{exc.strerror}.", do="Free some room.") from exc


def without_controls(text: str, stream: TextIO) -> str:
    """What a model or a file's header says must not drive the terminal: it could rename the window, or hide text."""
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text) if stream.isatty() else text


def has_person() -> bool:
    """Whether somebody is there to be asked."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


def agreed(question: str, *, default: bool = True) -> bool:
    """default: what Enter means; what is neither yes nor Enter is a no. Raises Cancelled when the person leaves."""
    import typer

    asked = f"{without_controls(question, sys.stderr)} [{'Y/n' if default else 'y/N'}]"
    try:
        typed = typer.prompt(asked, default="", show_default=False, err=True).strip().lower()
        return typed in ("y", "yes") or (default and not typed)
    except typer.Abort as exc:
        raise Cancelled("Stopped.") from exc


def piped_text(settings: Settings) -> str:
    """What was piped in, or "" on a terminal. Raises BadInput when it is not UTF-8, or has no end."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    with patience("reading standard input", settings):
        return read_text(sys.stdin.buffer, "Standard input")


def piped_lines(settings: Settings) -> list[str]:
    """The lines that were piped in, blank ones left out."""
    return [line for line in piped_text(settings).splitlines() if line.strip()]


@contextmanager
def patience(doing: str, settings: Settings) -> Iterator[threading.Timer]:
    """Say what is being done when it takes more than two seconds and nobody knows how far it is. Cancel the timer that
    this gives as soon as there is something to see."""
    timer = threading.Timer(PATIENCE_S, note, (f"{doing} …", settings))
    timer.daemon = True
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()


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
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[share]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(event: Progress) -> None:
            if event.step not in tasks:
                while tasks:  # what comes before is done
                    bars.remove_task(tasks.popitem()[1])
                tasks[event.step] = bars.add_task(event.step, total=event.total, share="")
            bars.update(tasks[event.step], completed=event.done, total=event.total, share=_share(event))

        yield watch


def _lines() -> Watch:
    last = monotonic()
    step = line = ""

    def watch(event: Progress) -> None:
        nonlocal last, step, line
        if event.step == step and monotonic() - last < LINE_EVERY_S and event.done != event.total:
            return
        told = ": ".join(filter(None, (event.step, _share(event))))
        if told != line and (event.step != step or event.total):
            sys.stderr.write(f"{told}\n")
            sys.stderr.flush()
        last, step, line = monotonic(), event.step, told

    return watch


def _share(event: Progress) -> str:
    """12 % of 98 MB."""
    if not event.total:
        return ""
    whole = size(event.total) if event.unit == "bytes" else f"{event.total:g} {event.unit}".rstrip()
    return f"{100 * event.done / event.total:.0f} % of {whole}"
