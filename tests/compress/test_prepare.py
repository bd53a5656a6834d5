"""What is measured once of a model: of which parts of the texts, and how long it stays."""

from __future__ import annotations

import os
import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.compress.imatrix import Text
from filbert.compress.prepare import CHARACTERS, CHUNK, IMPORTANCE, LEFT_S, TABLE, UNSEEN, clean, part_of
from filbert.core import paths
from filbert.core.files import alone


@given(st.lists(st.integers(4, 40_000), min_size=1, max_size=5))
def test_parts_of_texts_have_nothing_in_common_and_each_has_something(lengths: list[int]) -> None:
    at = 0
    texts = []
    for length in lengths:  # every character another one
        texts.append(Text("", "".join(map(chr, range(0x10000 + at, 0x10000 + at + length)))))
        at += length
    parts = [part_of(texts, numbers) for numbers in (IMPORTANCE, TABLE, UNSEEN)]
    for ours, theirs in combinations(parts, 2):
        for one, other in zip(ours, theirs, strict=True):
            assert one.text
            assert not set(one.text) & set(other.text)
    if sum(lengths) < 4 * CHARACTERS:
        for text, *of_it in zip(texts, *parts, strict=True):
            assert sorted("".join(part.text for part in of_it)) == sorted(text.text)


def test_of_long_texts_a_part_is_no_longer_and_from_everywhere() -> None:
    text = Text("", "".join(map(chr, range(0x10000, 0x10000 + 900_000))))
    (part,) = part_of([text], TABLE)
    assert len(part.text) == pytest.approx(CHARACTERS, rel=0.05)
    assert max(part.text) > text.text[-20 * CHUNK]


def test_what_a_killed_run_left_goes_when_nobody_came_back() -> None:
    folder = paths.compressions_folder() / "0123456789abcdef"
    results = ("gradient-1.json", "equalised-1.imatrix.gguf", "imatrix-1.gguf", "swaps.json")
    left = ("equalised-1.gguf", "logits/1/windows.json", "try-x/try.gguf", "equalised-1.work/whole.gguf")
    for name in (*results, *left):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    clean()
    assert all((folder / name).exists() for name in (*results, *left))
    long_ago = time.time() - LEFT_S - 1
    for file in folder.iterdir():
        os.utime(file, (long_ago, long_ago))
    with alone(folder / "equalised-1.gguf"):  # a run has come back to it
        clean()
    assert sorted(file.name for file in folder.iterdir()) == sorted((*results, "equalised-1.gguf"))
    clean()
    assert sorted(file.name for file in folder.iterdir()) == sorted(results)
