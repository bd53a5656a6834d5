"""Write the header of a GGUF file: what another one says of its model, and what is added or said otherwise.

The format is ggml's docs/gguf.md. Keys are copied as they stand, byte by byte, so that none is lost in translation.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.header import Header

ALIGNMENT = 32
VERSION = 3
U16, U32, I32, F32, STRING, ARRAY = 2, 4, 5, 6, 8, 9
TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
OF_THE_OLD_FILE = {"split.no", "split.count", "split.tensors.count", "general.alignment"}  # true of no other


class Short(int):
    """Stored as a u16, where others are a u32."""


class Signed(int):
    """Stored as an i32."""


Value = str | int | float | Sequence[str] | Sequence[int] | Sequence[float]


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in the file to be written. offset: bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


def placed(tensors: Iterable[tuple[str, tuple[int, ...], str]]) -> list[Place]:
    """Tensors one after the other: name, shape and type of each."""
    places: list[Place] = []
    offset = 0
    for name, shape, kind in tensors:
        size_bytes = size_of(shape, kind)
        places.append(Place(name, shape, kind, offset, size_bytes))
        offset += padded(size_bytes)
    return places


def size_of(shape: Sequence[int], kind: str) -> int:
    """Bytes of a tensor whose rows hold whole blocks."""
    stored = TENSOR_TYPES[TYPE_NUMBERS[kind]]
    return shape[0] // stored.block * stored.size_bytes * math.prod(shape[1:])


def padded(position: int) -> int:
    return position + -position % ALIGNMENT


def header_bytes(source: Header | None, said: Mapping[str, Value], places: Sequence[Place]) -> bytes:
    """All before the data. source: whose keys are copied, but for those in `said` and those that hold of it alone."""
    kept = source.places.items() if source else ()
    copied = [(source, place) for key, place in kept if source and key not in OF_THE_OLD_FILE | said.keys()]
    keys = [file.read_at(place.start, len(place)) for file, place in copied]
    keys += [_key(key, value) for key, value in said.items()]
    opening = b"GGUF" + struct.pack("<IQQ", VERSION, len(places), len(keys))
    data = b"".join([opening, *keys, *map(_info, places)])
    return data.ljust(padded(len(data)), b"\0")


def _key(key: str, value: Value) -> bytes:
    return _string(key) + _value(value)


def _value(value: Value) -> bytes:
    match value:
        case str():
            return struct.pack("<I", STRING) + _string(value)
        case Short():
            return struct.pack("<IH", U16, value)
        case Signed():
            return struct.pack("<Ii", I32, value)
        case int():
            return struct.pack("<II", U32, value)
        case float():
            return struct.pack("<If", F32, value)
        case [str(), *_]:
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_string(str(each)) for each in value)
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", ARRAY, I32, len(value), *value)
        case _:
            return struct.pack(f"<IIQ{len(value)}f", ARRAY, F32, len(value), *value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _info(place: Place) -> bytes:
    dimensions = struct.pack(f"<I{len(place.shape)}Q", len(place.shape), *place.shape)
    return _string(place.name) + dimensions + struct.pack("<IQ", TYPE_NUMBERS[place.type], place.offset)
