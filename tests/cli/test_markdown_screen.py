"""Markdown while it is written, on the screen of a terminal emulator."""

from __future__ import annotations

import re
import time

import pyte
import pytest
from emulator import Emulator
from hypothesis import given, settings
from hypothesis import strategies as st

from filbert.cli import markdown_screen
from filbert.cli.markdown_layout import laid_out, parts
from filbert.cli.markdown_screen import MarkdownScreen
from filbert.cli.styled import escaped

PIECES = (
    "# ", "## Head\n", "text ", "**bold** ", "*", "**", "`code` ", "`", "```", "```python\n", "~~~\n", "\n", "\n\n",
    "- ", "- item\n", "1. ", "2. two\n", "  - nested\n", "    ", "> ", "> quote\n", "---\n", "===\n", "| a | b |\n",
    "|---|--:|\n", "| 世界 | x |\n", "|", "世界", "naïve 🙂 ", "[link](http://a.b) ", "[a]: http://b\n", "&amp;", "&#27;",
    "def f(x):\n", "\"\"\"doc\n", "/* c\n", "*/", "<b>", "<br>", "long" * 12 + " ", "\\", "\t", "x = 1 # y\n", "\x1b[2J",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def whole(text: str, width: int) -> list[str]:
    found = parts(text)
    return [escaped(line) for line in laid_out(found, text, width)]


def printing(columns: int, rows: int) -> Emulator:
    """With the newlines that a terminal's driver adds its carriage returns to."""
    terminal = Emulator(columns, rows)
    terminal.screen.set_mode(pyte.modes.LNM)
    return terminal


def shown(text: str, columns: int, rows: int) -> list[tuple[pyte.screens.Char, ...]]:
    terminal = printing(columns, rows)
    terminal.write("".join(f"{line}\n" for line in whole(text, columns - 1)))
    return terminal.cells()


@pytest.fixture
def every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown_screen, "FRAME_S", 0.0)
    monkeypatch.setattr(markdown_screen, "SHARE_OF_TIME", 1e9)


def streamed(text: str, cuts: list[int], columns: int, rows: int) -> Emulator:
    terminal = printing(columns, rows)
    screen = MarkdownScreen(terminal.write, terminal.size)
    at = 0
    for cut in cuts:
        screen.feed(text[at : at + cut])
        screen.draw()
        at += cut
    screen.feed(text[at:])
    screen.finish()
    return terminal


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 30), max_size=40), st.integers(12, 60), st.integers(3, 20))
def test_the_final_screen_is_that_of_the_whole_text_at_once(
    text: str, cuts: list[int], columns: int, rows: int
) -> None:
    terminal = streamed(text, cuts, columns, rows)
    assert terminal.cells() == shown(text, columns, rows)
    for frame in terminal.frames:
        assert all(int(up) < rows for up in re.findall(r"\x1b\[(\d+)A", frame))


ANSWER = """# Nuts

A **filbert** is a *nut*, see [the page](http://nuts.example).

- one
- two

| nut | weight |
|-----|-------:|
| 榛子 | 2 g |

```python
def crack(nut):  # by hand
    return "open"
```

The end.
"""


@pytest.mark.usefixtures("every_frame")
def test_what_markdown_means_is_shown() -> None:
    lines = streamed(ANSWER, [3] * 200, 60, 24).lines()
    for shown_line in (
        "Nuts",
        "A filbert is a nut, see the page (http://nuts.example).",
        "• two",
        "nut  │ weight",
        "─────┼───────",
        "榛子 │    2 g",
        "def crack(nut):  # by hand",
        "The end.",
    ):
        assert shown_line in lines


def test_code_is_coloured_while_it_is_written() -> None:
    terminal = streamed('```python\ndef f():\n    """a\n    b"""\n    return 1', [5] * 20, 60, 24)
    colours = {"".join(cell.data for cell in line).strip(): line for line in terminal.cells()}
    assert colours["def f():"][0].fg == "magenta"
    assert colours['b"""'][4].fg == "green"


@pytest.mark.parametrize("bad", ["\x1b]0;renamed\x07", "\x9b2J", "&#27;[2J", "`\x1b[8m`", "```\n\x1b[2J\n```"])
def test_a_model_does_not_drive_the_terminal(bad: str) -> None:
    terminal = streamed(f"kept\n\n{bad} and seen\n", [2] * 20, 60, 24)
    ours = re.compile(r"\x1b\[(\?2026[hl]|[\d;]*m|\d+A|J)")
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", ours.sub("", "".join(terminal.frames)))
    assert terminal.lines()[0] == "kept"


@pytest.mark.usefixtures("every_frame")
def test_finished_parts_are_printed_once() -> None:
    terminal = streamed("First paragraph.\n\n" + "Second one, word by word. " * 20, [4] * 200, 60, 24)
    assert re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", "".join(terminal.frames)).count("First paragraph.") == 1
    assert all(frame.startswith("\x1b[?2026h") and frame.endswith("\x1b[?2026l") for frame in terminal.frames)


def test_frames_are_few_however_fast_the_words_come() -> None:
    begun = time.monotonic()
    terminal = printing(60, 24)
    screen = MarkdownScreen(terminal.write, terminal.size)
    for _ in range(2000):
        screen.feed("word ")
    seconds = time.monotonic() - begun
    assert 1 <= len(terminal.frames) <= seconds / markdown_screen.FRAME_S + 1


@pytest.mark.parametrize(("columns", "rows"), [(20, 24), (100, 24), (60, 5), (30, 4)])
def test_a_screen_of_another_size_loses_no_line_above(columns: int, rows: int) -> None:
    terminal = printing(60, 24)
    screen = MarkdownScreen(terminal.write, terminal.size)
    terminal.write("typed before\n" * 30)
    screen.feed("A paragraph of words that goes on. " * 8)
    screen.draw()
    terminal.resize(columns, rows)
    screen.feed("It ends here.\n\nlast\n")
    screen.finish()
    lines = terminal.lines()
    assert lines[:10] == ["typed before"] * 10
    assert " ".join(lines).replace("\n", " ").split()[-4:] == ["It", "ends", "here.", "last"]


def test_a_part_taller_than_the_screen_is_whole_in_the_end() -> None:
    table = "| n | square |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(50))
    lines = streamed(table + "\nend\n", [40] * 100, 60, 8).lines()
    assert [line.split()[0] for line in lines[2:52]] == [str(n) for n in range(50)]


def test_marks_within_marks_without_end_are_shown_as_they_were_written() -> None:
    assert "*" * 78 in "".join(whole("*" * 489 + "a" + "*" * 489, 80))
    assert "image" in "".join(whole("![" + "*" * 2001 + "a" + "*" * 2001 + "](b)", 80))
    assert "\x1b[3;1maaa" in "".join(whole("***aaa***", 80))
