"""What is typed: when it goes on, what is kept of it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from filbert.cli.chat_input import MOST_BYTES, append_typed, is_open, joined, read_typed, typed_file, unquoted


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        ("a question", False),
        ("goes on \\", True),
        ('"""', True),
        ('"""one', True),
        ('"""one\ntwo"""', False),
        ('"""one line"""', False),
        ("", False),
    ],
)
def test_a_text_goes_on_after_a_backslash_and_between_quotes(text: str, goes_on: bool) -> None:
    assert is_open(text) is goes_on


def test_the_marks_are_no_part_of_the_text() -> None:
    assert unquoted('"""one\ntwo"""') == "one\ntwo"
    assert unquoted('a """ in it') == 'a """ in it'
    assert joined("one \\") == "one "
    assert joined('"""a path \\') == '"""a path \\'


def test_what_was_typed_is_read_again_for_its_owner_only() -> None:
    for text in ("one", "two\nlines", "世界"):
        append_typed(text)
    assert read_typed() == ["one", "two\nlines", "世界"]
    assert stat.S_IMODE(typed_file().stat().st_mode) == 0o600


def test_a_damaged_line_is_left_out(home: Path) -> None:
    append_typed("one")
    with typed_file().open("ab") as file:
        file.write(b'"cut\n\xff\xfe\n7\n[[[[\n')
    append_typed("two")
    assert read_typed() == ["one", "two"]


def test_a_file_that_grew_long_keeps_its_newest_entries() -> None:
    append_typed("old")
    with typed_file().open("a") as file:
        file.writelines(f"{json.dumps('x' * 2000)}\n" for _ in range(MOST_BYTES // 1000))
    append_typed("new")
    assert read_typed()[-1] == "new"
    assert "old" not in read_typed() and typed_file().stat().st_size <= MOST_BYTES // 2
    assert stat.S_IMODE(typed_file().stat().st_mode) == 0o600
