"""Headers of safetensors files: read, and every claim checked against the file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from filbert.core.errors import BadModelFile
from filbert.models.safetensors import read_safetensors

GOOD = {
    "b": {"dtype": "F16", "shape": [2, 3], "data_offsets": [8, 20]},
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
}


def write(path: Path, told: Any, size: int = 20, length: int | None = None) -> Path:
    data = told if isinstance(told, bytes) else json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(data) if length is None else length) + data + bytes(size))
    return path


def test_tensors_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    told = {"__metadata__": {"format": "pt"}, **GOOD}
    found = read_safetensors(write(tmp_path / "model.safetensors", told))
    assert [(each.name, each.type, each.shape, each.count) for each in found] == [
        ("a", "F32", (2,), 2),
        ("b", "F16", (2, 3), 6),
    ]


def of_b(**said: Any) -> dict[str, Any]:
    return {**GOOD, "b": {**GOOD["b"], **said}}


@pytest.mark.parametrize(
    ("told", "size", "length", "why"),
    [
        (GOOD, 19, None, "take 20 bytes and the file has 19"),
        (GOOD, 21, None, "take 20 bytes and the file has 21"),
        (GOOD, 20, 1 << 62, "claims"),
        (GOOD, 20, 10, "no JSON"),
        (b"[" * 100_000, 20, None, "no JSON"),
        (b'{"a":' * 100_000, 20, None, "no JSON"),
        (b"[]", 20, None, "no JSON object"),
        (of_b(data_offsets=[4, 16]), 20, None, "begins at 4"),
        (of_b(data_offsets=[10, 22]), 22, None, "begins at 10"),
        (of_b(data_offsets=[8, 1 << 60]), 20, None, "6 values"),
        (of_b(data_offsets=[20, 8]), 20, None, "6 values"),
        (of_b(data_offsets=[-12, 0]), 20, None, "6 values"),
        (of_b(shape=[2, -3]), 20, None, "shape"),
        (of_b(shape=[1 << 60, 1 << 60]), 20, None, "shape"),
        (of_b(shape="x"), 20, None, "no tensor"),
        (of_b(dtype="PICKLE"), 20, None, "no tensor"),
        ({**GOOD, "c": 3}, 20, None, "no tensor"),
        ({**GOOD, "c": {}}, 20, None, "no tensor"),
    ],
)
def test_what_lies_is_refused_before_it_is_read(
    told: Any, size: int, length: int | None, why: str, tmp_path: Path
) -> None:
    with pytest.raises(BadModelFile, match=why):
        read_safetensors(write(tmp_path / "model.safetensors", told, size, length))


def test_a_file_of_less_than_eight_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"1234")
    with pytest.raises(BadModelFile, match="less than eight"):
        read_safetensors(tmp_path / "model.safetensors")
