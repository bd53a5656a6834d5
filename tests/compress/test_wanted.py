"""What a file is to be, as people write it."""

from __future__ import annotations

import pytest

from filbert.compress.wanted import Wanted, wanted
from filbert.core.errors import BadInput


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("90MB", "size", 90e6),
        ("1.5 GB", "size", 1.5e9),
        ("4.5bpw", "bpw", 4.5),
        ("device=8GB", "device", 8e9),
        ("kld=0.02", "quality", 0.02),
        ("20tokens/s", "speed", 20),
    ],
)
def test_each_is_read(text: str, kind: str, value: float) -> None:
    found = wanted(text)
    assert found
    assert (found.kind, found.value) == (kind, value)
    assert not set(found.text) & set("/= ")  # it is a part of a file's name


@pytest.mark.parametrize("text", ["Q4_K_M", "MXFP4", "", "90", "kld=-1", "GB"])
def test_what_is_none_is_left_to_others(text: str) -> None:
    assert wanted(text) is None


@pytest.mark.parametrize("text", ["0MB", "0bpw", "kld=0", "device=much"])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        wanted(text)


def test_the_name_is_as_it_was_written() -> None:
    assert wanted("4.5bpw") == Wanted("bpw", 4.5, "4.5bpw")


@pytest.mark.parametrize(
    ("text", "is_small"),
    [("3.7bpw", True), ("3.9bpw", False), ("370B", True), ("390B", False), ("device=1MB", False), ("kld=0.1", False)],
)
def test_few_bits_a_weight_are_small(text: str, is_small: bool) -> None:
    found = wanted(text)
    assert found
    assert found.is_small(800) == is_small
