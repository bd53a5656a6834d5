"""What is taken for a sha256, and where the pattern stands."""

from __future__ import annotations

from pathlib import Path

import pytest

import filbert
from filbert.core.sha256 import is_sha256


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("0a" * 32, True),
        ("0A" * 32, False),
        ("0a" * 31, False),
        ("0a" * 33, False),
        (f"{'0a' * 32}\n", False),
        ("", False),
    ],
)
def test_only_64_hex_digits_in_lower_case_are_a_sha256(text: str, is_one: bool) -> None:
    assert is_sha256(text) is is_one


def test_the_pattern_stands_in_one_place() -> None:
    source = Path(str(filbert.__file__)).parent
    assert [path.name for path in source.rglob("*.py") if "f]{64}" in path.read_text("utf-8")] == ["sha256.py"]
