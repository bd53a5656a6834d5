"""Markdown on a terminal while it is written: a part that is finished is printed once and never touched again, only
the last one is drawn anew in its place."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from filbert.cli.highlight import Highlighter
from filbert.cli.markdown_layout import fence_line, is_closed_fence, laid_out, parts
from filbert.cli.styled import Line, chop, escaped

FRAME_S = 1 / 15
SHARE_OF_TIME = 0.05  # that drawing may take: a very long part is drawn less often
BEGIN_FRAME, END_FRAME = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know them show the frame at once
Size = Callable[[], tuple[int, int]]  # columns and rows of the screen


@dataclass
class _Code:
    """A code block at the top that is being written: its lines are finished one by one."""

    mark: str
    indent: int
    highlighter: Highlighter
    closing: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        self.closing = re.compile(rf" {{0,3}}{re.escape(self.mark[0])}{{{len(self.mark)},}}[ \t]*")

    def lines(self, text: str, width: int) -> list[Line]:
        blanks = len(text) - len(text.lstrip(" "))
        return chop(self.highlighter.line(text[min(blanks, self.indent) :]), width)


class MarkdownScreen:
    """`feed` it text as it comes, `finish` it at the end. What it wrote last must be the last that was written."""

    def __init__(self, write: Callable[[str], None], size: Size) -> None:
        """write: puts text on the terminal at once."""
        self._write, self._size = write, size
        self._tail = ""  # the source of what is not finished
        self._above = "x"  # the line of the source above it
        self._printed = False
        self._code: _Code | None = None
        self._drawn: list[str] = []
        self._columns = 0
        self._due_at = 0.0

    def feed(self, text: str) -> None:
        self._tail += text.replace("\r", "").replace("\0", "\N{REPLACEMENT CHARACTER}")
        if self._tail and monotonic() >= self._due_at:
            self.draw()

    def draw(self) -> None:
        """Show all that came so far."""
        self._frame(last=False)

    def finish(self) -> None:
        self._frame(last=True)
        self._tail = ""

    def _frame(self, last: bool) -> None:
        begun = monotonic()
        columns, rows = self._size()
        width = max(columns - 1, 1)  # no line ends at the edge, where terminals differ
        finished = self._finished(width, last)
        growing = [] if last else self._growing(width)
        self._paint([escaped(line) for line in finished], [escaped(line) for line in growing], columns, rows)
        ended = monotonic()
        self._due_at = ended + max(FRAME_S, (ended - begun) / SHARE_OF_TIME)

    def _finished(self, width: int, last: bool) -> list[Line]:
        """The lines of what is finished, taken off the tail."""
        lines: list[Line] = []
        while True:
            before = len(self._tail)
            lines += self._finished_code(self._code, width, last) if self._code else self._finished_parts(width, last)
            if len(self._tail) == before or not self._tail:
                return lines

    def _finished_parts(self, width: int, last: bool) -> list[Line]:
        """Only whole lines tell: half of one may still become something else."""
        whole = self._tail if last else self._tail[: self._tail.rfind("\n") + 1]
        found = parts(whole, self._above)
        opens = bool(found) and found[-1].node.type == "fence" and not is_closed_fence(found[-1].node)
        finished = found if last and not opens else found[:-1]
        if not finished and not opens:
            return []
        lines = self._with_gap(finished[0].apart, laid_out(finished, whole, width)) if finished else []
        self._take(len(whole) if finished is found else _offset(whole, found[-1].first))
        return [*lines, *self._opened(whole, found[-1].apart, width)] if opens else lines

    def _opened(self, whole: str, apart: bool, width: int) -> list[Line]:
        line, newline, _ = self._tail.partition("\n")
        if not newline:
            self._tail += "\n"
        bare = line.lstrip(" ")
        mark = bare[: len(bare) - len(bare.lstrip(bare[0]))]
        language = bare[len(mark) :].strip()
        self._code = _Code(mark, len(line) - len(bare), Highlighter((language.split() or [""])[0]))
        self._take(len(line) + 1)
        return self._with_gap(apart, chop(fence_line(mark, language), width))

    def _finished_code(self, code: _Code, width: int, last: bool) -> list[Line]:
        lines: list[Line] = []
        while "\n" in self._tail or (last and self._tail):
            line = self._tail.partition("\n")[0]
            self._take(min(len(line) + 1, len(self._tail)))
            if code.closing.fullmatch(line):
                self._code = None
                return [*lines, fence_line(code.mark)]
            lines += code.lines(line, width)
        return lines

    def _growing(self, width: int) -> list[Line]:
        if self._code:
            return copy.deepcopy(self._code).lines(self._tail, width) if self._tail else []
        found = parts(self._tail, self._above)
        lines = laid_out(found, self._tail, width)
        apart = bool(found) and self._printed and found[0].apart
        return [[], *lines] if apart else lines

    def _with_gap(self, apart: bool, lines: list[Line]) -> list[Line]:
        gap: list[Line] = [[]] if apart and self._printed else []
        self._printed = True
        return [*gap, *lines]

    def _take(self, characters: int) -> None:
        taken, self._tail = self._tail[:characters], self._tail[characters:]
        if taken:
            self._above = taken.removesuffix("\n").rpartition("\n")[2]

    def _paint(self, finished: list[str], growing: list[str], columns: int, rows: int) -> None:
        """Lines that stand already are left alone; a line that only grew is only added to."""
        growing = growing[-max(rows - 1, 1) :]
        lost = columns < self._columns or len(self._drawn) > rows  # nobody knows where the lines stand now
        if self._drawn and lost:
            self._write("\n")
            self._drawn = []
        self._columns = columns
        lines = [*finished, *growing]
        motion, rest = _to_first_change(self._drawn, lines)
        text = motion + "\n".join(rest) + ("\n" if finished and not growing else "")
        if text:
            self._write(f"{BEGIN_FRAME}{text}{END_FRAME}")
        self._drawn = growing


def _offset(source: str, line: int) -> int:
    """Where a line begins."""
    at = 0
    for _ in range(line):
        at = source.index("\n", at) + 1
    return at


def _to_first_change(drawn: list[str], lines: list[str]) -> tuple[str, list[str]]:
    """How to get from the end of what is drawn to where the lines begin to differ, and what is to write there."""
    if not drawn:
        return "", lines
    same = 0
    while same < min(len(drawn), len(lines)) and drawn[same] == lines[same]:
        same += 1
    if same == len(drawn):
        return ("\n" if lines[same:] else ""), lines[same:]
    if same == len(drawn) - 1 and same < len(lines) and lines[same].startswith(drawn[same]):
        return "", [lines[same][len(drawn[same]) :], *lines[same + 1 :]]
    up = len(drawn) - 1 - same
    return (f"\x1b[{up}A" if up else "") + "\r\x1b[J", lines[same:]
