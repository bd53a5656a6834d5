"""Styled text in a terminal's cells: spans of text, wrapped to a width, as escape sequences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from wcwidth import wcwidth

from filbert.cli.console import CONTROLS

Span = tuple[str, str]  # text, and the numbers of its style as SGR takes them: "1;36", "" for plain
Line = list[Span]
DIM = "2"
PIECES = re.compile(r"\n|[ \t]+|[^ \t\n]+")


@lru_cache(8192)
def _character_cells(character: str) -> int:
    """A variation selector may widen what stands before it: count it, for a line may be too short, never too long."""
    return 1 if character == "\ufe0f" else max(0, wcwidth(character))


def cells(text: str) -> int:
    """Cells that the text takes, or a few more."""
    return len(text) if text.isascii() else sum(map(_character_cells, text))


def line_cells(line: Iterable[Span]) -> int:
    return sum(cells(text) for text, _ in line)


def styled(text: str, *styles: str) -> Span:
    return text, ";".join(filter(None, styles))


def escaped(line: Iterable[Span]) -> str:
    """The line as it is written. What a model says must not drive the terminal, also not as `&#27;`."""
    texts = ((CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\t", "    ")), style) for text, style in line)
    return "".join(f"\x1b[{style}m{text}\x1b[0m" if style else text for text, style in texts if text)


def wrap(spans: Iterable[Span], width: int) -> list[Line]:
    """Fill lines of `width` cells with whole words; only a word longer than a line is cut. A newline ends a line."""
    paragraph = _Paragraph(max(width, 1))
    for text, style in spans:
        for piece in PIECES.findall(text):
            if piece == "\n":
                paragraph.end_line()
            elif piece.isspace():
                paragraph.end_word()
                paragraph.blank = (" ", style)
            else:
                paragraph.word.append((piece, style))
    paragraph.end_word()
    return paragraph.lines


class _Paragraph:
    """Lines being filled. Adding text never changes a line that is full."""

    def __init__(self, width: int) -> None:
        self.lines: list[Line] = [[]]
        self.word: Line = []
        self.blank: Span | None = None
        self._width, self._used = width, 0

    def end_word(self) -> None:
        if not self.word:
            return
        if self.blank and self._used and self._used + 1 + line_cells(self.word) > self._width:
            self._next_line()
        elif self.blank and self._used:
            self._put(*self.blank, 1)
        for text, style in self.word:
            self.put_in_pieces(text, style)
        self.word, self.blank = [], None

    def end_line(self) -> None:
        self.end_word()
        self._next_line()

    def _next_line(self) -> None:
        self.lines.append([])
        self._used, self.blank = 0, None

    def _put(self, text: str, style: str, width: int) -> None:
        line = self.lines[-1]
        if line and line[-1][1] == style:
            line[-1] = (line[-1][0] + text, style)
        else:
            line.append((text, style))
        self._used += width

    def put_in_pieces(self, text: str, style: str) -> None:
        while text:
            taken = fitting(text, self._width - self._used)
            if taken or not self._used:
                piece = text[: taken or 1]
                self._put(piece, style, cells(piece))
                text = text[len(piece) :]
            if text:
                self._next_line()


def fitting(text: str, width: int) -> int:
    """How many of the first characters fit into `width` cells."""
    if text.isascii():
        return min(len(text), width)
    used = 0
    for index, character in enumerate(text):
        used += _character_cells(character)
        if used > width:
            return index
    return len(text)


def chop(line: Sequence[Span], width: int) -> list[Line]:
    """A line of code, cut where the screen ends."""
    paragraph = _Paragraph(max(width, 1))
    for text, style in line:
        paragraph.put_in_pieces(text.expandtabs(4), style)
    return paragraph.lines


def prefixed(lines: Iterable[Line], first: Span, rest: Span) -> list[Line]:
    return [[rest if index else first, *line] for index, line in enumerate(lines)]
