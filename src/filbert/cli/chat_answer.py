"""How an answer is shown while it comes: as Markdown on a terminal, else as it is."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock, Timer
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from filbert.cli.console import PATIENCE_S, cut, has_colours, note, patience, put, say, say_dim
from filbert.core.messages import Message
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.chat.session import Turn
    from filbert.cli.markdown_screen import MarkdownScreen
    from filbert.engine.generation import Chunk

ASIDE_CHARACTERS = 100
NO_SIZE = (80, 24)
WORD_ENDS = re.compile(r"(?<=\s)")


class Page(Protocol):
    """Where an answer is shown."""

    def thought(self, text: str) -> None: ...

    def text(self, text: str) -> None: ...

    def aside(self, line: str) -> None:
        """What is neither thought nor said: a tool called, and what came back."""

    def end(self) -> None: ...


def page(settings: Settings, plain: bool) -> Page:
    return PlainPage(settings) if plain else MarkdownPage()


def draws_markdown() -> bool:
    """Whether what reads is a terminal that a person sees, and wants colours on."""
    return sys.stdout.isatty() and has_colours()


class PlainPage:
    """The text as it came. What a model thinks before it answers is for a terminal only, and dim."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = self._thinking = False

    def thought(self, text: str) -> None:
        if sys.stdout.isatty():
            say_dim(text)
            self._open = self._thinking = True

    def text(self, text: str) -> None:
        say(("\n\n" if self._thinking else "") + text, end="")
        self._open, self._thinking = True, False

    def aside(self, line: str) -> None:
        self.end()
        note(line, self._settings)

    def end(self) -> None:
        if self._open:
            say()
        self._open = self._thinking = False


class MarkdownPage:
    """Thought dim, and how long it took; text as Markdown."""

    def __init__(self) -> None:
        self._screen: MarkdownScreen | None = None
        self._thinking_since = 0.0
        self._thought = _Flow()

    def thought(self, text: str) -> None:
        if not self._thinking_since:
            self._end_text()
            self._thinking_since, self._thought = monotonic(), _Flow()
        self._thought.feed(text)

    def text(self, text: str) -> None:
        from filbert.cli.markdown_screen import MarkdownScreen

        if self._thinking_since:
            self._end_thought()
            say()
        if self._screen is None:
            self._screen = MarkdownScreen(put, screen_size)
        self._screen.feed(text)

    def aside(self, line: str) -> None:
        self.end()
        say_dim(f"{line}\n")

    def end(self) -> None:
        self._end_thought()
        self._end_text()

    def _end_thought(self) -> None:
        if self._thinking_since:
            self._thought.end()
            say_dim(f"(thought for {monotonic() - self._thinking_since:.0f} s)\n")
            self._thinking_since = 0.0

    def _end_text(self) -> None:
        if self._screen:
            self._screen.finish()
            self._screen = None


class _Flow:
    """Dim words, each whole on its line, as they come."""

    def __init__(self) -> None:
        self._word = ""
        self._column = 0

    def feed(self, text: str) -> None:
        *whole, self._word = WORD_ENDS.split(self._word + text)
        for piece in whole:
            self._put(piece)

    def end(self) -> None:
        self._put(f"{self._word.rstrip()}\n")
        self._word = ""

    def _put(self, piece: str) -> None:
        """A word and the blank or newline after it; nothing is put before the first word."""
        from filbert.cli.styled import cells

        word = piece.rstrip()
        if not word and not self._column:
            return
        if self._column and self._column + cells(word) >= screen_size()[0]:
            piece, self._column = f"\n{piece}", 0
        say_dim(piece)
        self._column = 0 if piece.endswith("\n") else self._column + cells(piece.lstrip("\n"))


def screen_size() -> tuple[int, int]:
    """Columns and rows; a terminal that does not tell has 80 by 24."""
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(sys.stdout.fileno())
        return size.columns or NO_SIZE[0], size.lines or NO_SIZE[1]
    return NO_SIZE


def answer(turn: Turn, settings: Settings, plain: bool) -> None:
    """Show an answer as it comes; Ctrl-C leaves it half said."""
    if turn.forgotten_turns:
        note(f"The context is full: the oldest {turn.forgotten_turns} turns are left out.", settings)
    shown = page(settings, plain)
    try:
        doing = "reading the prompt"
        with silent_keyboard(), patience(doing, settings) if plain else passing(doing, settings) as waiting:
            _show(turn, shown, waiting)
    finally:
        shown.end()
    if turn.cut_short:
        note(turn.cut_short, settings)


class Waiting(Protocol):
    def cancel(self) -> None:
        """There is something to see."""


class PassingNote:
    """A note that is taken off the screen again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = Lock()
        self._shown = self._over = False
        self._timer = Timer(PATIENCE_S, self._show)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()
        with self._lock:
            if self._shown and not self._over:
                put("\r\x1b[K")
            self._over = True

    def _show(self) -> None:
        with self._lock:
            if not self._over:
                say_dim(f"{self._text} …")
                self._shown = True


@contextmanager
def passing(doing: str, settings: Settings) -> Iterator[Waiting]:
    """As `patience`, and nothing of it stays."""
    note = PassingNote(doing)
    if settings.quiet:
        note.cancel()
    try:
        yield note
    finally:
        note.cancel()


def _show(turn: Turn, shown: Page, waiting: Waiting) -> None:
    calling: list[Chunk] = []  # a call comes in pieces
    for chunk in turn:
        if chunk.reasoning or chunk.text or chunk.tool_calls:
            waiting.cancel()
        if chunk.tool_calls:
            calling.append(chunk)
        elif calling:
            _show_calls(calling, shown)
            calling = []
        if chunk.reasoning:
            shown.thought(chunk.reasoning)
        if chunk.text:
            shown.text(chunk.text)
        for result in chunk.tool_results:
            shown.aside(came_back(result))
    _show_calls(calling, shown)


def _show_calls(pieces: Sequence[Chunk], shown: Page) -> None:
    from filbert.engine.generation import gather

    for call in gather(pieces).tool_calls:
        shown.aside(called(call))


def called(call: Mapping[str, Any]) -> str:
    """→ weather(city='Paris')"""
    function = call["function"]
    try:
        given = json.loads(function["arguments"] or "{}")
    except ValueError:
        given = None
    shown = ", ".join(f"{name}={value!r}" for name, value in given.items()) if isinstance(given, dict) else "…"
    return cut(f"→ {function['name']}({shown})", ASIDE_CHARACTERS)


def came_back(result: Message) -> str:
    """← the first line of what a tool said"""
    return cut(f"← {' '.join(result.text.split())}", ASIDE_CHARACTERS)


@contextmanager
def silent_keyboard() -> Iterator[None]:
    """What is typed while an answer comes waits for the next prompt, and is not shown in the middle of it."""
    try:
        import termios
    except ImportError:  # Windows shows nothing of it anyway
        yield
        return
    if not _is_ours():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    silent = list(before)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _is_ours() -> bool:
    """Whether standard input is the terminal before which we stand; in the background, asking would stop us."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
