"""A terminal as a person sees it: an emulated screen, and a program that runs on it and is recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pyte
from terminal import PRESSED_AGAIN_S, PseudoTerminal

SECONDS = 60


class Emulator:
    """A screen with what scrolled off it."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], None] = lambda text: None) -> None:
        """answer: gets what a terminal answers when a program asks where its cursor is."""
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.5)
        self.screen.write_process_input = answer
        self._stream = pyte.Stream(self.screen)
        self.frames: list[str] = []

    def write(self, text: str) -> None:
        self.frames.append(text)
        self._stream.feed(text)

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def resize(self, columns: int, rows: int) -> None:
        """As terminals do it: what stands at the bottom stays at the bottom."""
        at = self.screen.cursor.y - max(0, self.screen.lines - rows)
        self.screen.resize(rows, columns)
        self.screen.cursor.y = at

    def cells(self) -> list[tuple[pyte.screens.Char, ...]]:
        """All lines, from the first that scrolled away to the last that has something on it."""
        rows = [*self.screen.history.top, *(self.screen.buffer[y] for y in range(self.screen.lines))]
        cells = [tuple(row[x] for x in range(self.screen.columns)) for row in rows]
        while cells and not "".join(cell.data for cell in cells[-1]).strip():
            cells.pop()
        return cells

    def lines(self) -> list[str]:
        return ["".join(cell.data for cell in line).rstrip() for line in self.cells()]

    def text(self) -> str:
        return "\n".join(self.lines())


class Screen(PseudoTerminal):
    """A program on a pseudo-terminal with an emulated screen; `recording` is what it wrote, and when."""

    def __init__(self, *command: str, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self.emulator = Emulator(columns, rows, self.type)
        self.recording: list[tuple[float, str]] = []
        self._began = time.monotonic()
        told = {"TERM": "xterm-256color", "NO_COLOR": "", **environment}
        super().__init__(*command, columns=columns, rows=rows, **told)

    def take(self, text: str) -> None:
        self.recording.append((time.monotonic() - self._began, text))
        self.emulator.write(text)

    def ask(self, line: str, *shown: str) -> None:
        """Type a line when the prompt waits, and wait until all this is shown below it, and the next prompt."""
        self.wait_until(self.waits)
        before, end_of_line = len(self.emulator.text()), line.splitlines()[-1][-20:]

        def below() -> str:
            """What is shown after the line; a menu of completions may stand there for a moment."""
            return self.emulator.text()[before:].partition(end_of_line)[2]

        self.type(line)
        self.wait_until(lambda: end_of_line in self.emulator.text()[before:])
        self.type("\r")
        self.wait_until(lambda: all(text in below() for text in shown) and below().rsplit("\n", 1)[-1] == ">")

    def waits(self) -> bool:
        """Whether the last line is an empty prompt."""
        return self.emulator.text().rsplit("\n", 1)[-1] == ">"

    def wait_for(self, text: str, *, pressing: str = "") -> None:
        self.wait_until(lambda: text in self.emulator.text(), pressing)

    def wait_until(self, true: Callable[[], bool], pressing: str = "") -> None:
        """pressing: typed now, and again when nothing came of it, as `PseudoTerminal.wait` does."""
        self.type(pressing)
        pressed = time.monotonic()
        until = pressed + SECONDS
        while not true():
            assert time.monotonic() < until, self.emulator.text()
            if time.monotonic() > pressed + PRESSED_AGAIN_S:
                self.type(pressing)
                pressed = time.monotonic()
            assert self.read() or true(), f"ended at:\n{self.emulator.text()}"

    def write_cast(self, file: Path, title: str) -> None:
        """The recording as an asciicast (version 2), which asciinema plays."""
        columns, rows = self.emulator.size()
        head = {"version": 2, "width": columns, "height": rows, "idle_time_limit": 1.5, "title": title}
        events = [[round(at, 3), "o", text] for at, text in self.recording]
        file.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in (head, *events)), "utf-8")
