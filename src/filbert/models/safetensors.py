"""Read the header of a safetensors file and check every claim in it against the file, before anybody maps it.

The format is Hugging Face's (https://github.com/huggingface/safetensors): eight bytes of length, so much JSON, then the
tensors, one after the other and without holes.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filbert.core.errors import BadModelFile

MAX_HEADER_BYTES = 100_000_000  # the format's own
WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """One tensor. start, end: bytes from the start of the data."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def read_safetensors(path: Path) -> list[Weights]:
    """In the order of the file. Raises BadModelFile."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        opening = file.read(8)
        if len(opening) < 8:
            raise _damaged(path, "It has less than eight bytes.")
        (length,) = struct.unpack("<Q", opening)
        if length > min(MAX_HEADER_BYTES, size_bytes - 8):
            raise _damaged(path, f"Its header claims {length} bytes and the file has {size_bytes}.")
        data = file.read(length)
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, "Its header is no JSON that can be read.") from exc
    if not isinstance(told, dict):
        raise _damaged(path, "Its header is no JSON object.")
    found = [_tensor(path, name, value) for name, value in told.items() if name != "__metadata__"]
    found.sort(key=lambda each: (each.start, each.end))
    at = 0
    for each in found:
        if each.start != at:
            raise _damaged(path, f"{each.name:.80} begins at {each.start}, where the one before it ends at {at}.")
        at = each.end
    if at != size_bytes - 8 - length:
        raise _damaged(path, f"Its tensors take {at} bytes and the file has {size_bytes - 8 - length} for them.")
    return found


def _tensor(path: Path, name: str, value: Any) -> Weights:
    match value:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(start), int(end)]} if kind in WIDTHS:
            pass
        case _:
            raise _damaged(path, f"What it says of {name:.80} is no tensor.")
    if not all(isinstance(length, int) and 0 <= length < 1 << 48 for length in shape) or len(shape) > 16:
        raise _damaged(path, f"The shape of {name:.80} is none.")
    found = Weights(name, kind, tuple(shape), start, end)
    if start < 0 or end - start != found.count * WIDTHS[kind]:
        raise _damaged(path, f"{name:.80} has {found.count} values and {end - start} bytes for them.")
    return found


def _damaged(path: Path, why: str) -> BadModelFile:
    return BadModelFile(f"{path.name} is damaged.", why=why, do="Download it again.")
