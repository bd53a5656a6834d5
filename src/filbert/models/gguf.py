"""Read the header of a GGUF file and check every claim in it against the file, before native code may see it.

The rules are the engine's own (its `gguf.cpp`), plus limits on time and memory, plus what its loader takes on trust:
docs/decisions/003-gguf-header.md. Only the header is read, in windows, so that a remote file can be read by ranges.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from filbert.core.errors import BadModelFile
from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.header import NUMBER_CODES, Header, ReadAt, Stored, Tensor, Value, decode
from filbert.models.header_check import check_meaning

__all__ = ["Header", "ReadAt", "Stored", "Tensor", "check_split", "read_header", "read_header_from"]

WINDOW_BYTES = 1 << 20
MAX_KEYS = 1 << 16
MAX_KEY_BYTES = (1 << 16) - 1  # the format's own
MAX_TENSORS = 1 << 16
MAX_TENSOR_NAME_BYTES = 63  # ggml keeps 64 with the closing zero
MAX_DIMENSIONS = 4
MAX_STRINGS = 1 << 24  # in all arrays together; the biggest vocabularies have under two million with their merges
MAX_ARRAY_COUNT = 1 << 30  # the engine's own
KEPT_COUNT = 1024  # longer arrays stay in the file
KEPT_BYTES = 1 << 20  # longer values stay in the file
MAX_KEPT_BYTES = 1 << 26  # of all values together
DEFAULT_ALIGNMENT = 32

NUMBERS = {
    0: "u8",
    1: "i8",
    2: "u16",
    3: "i16",
    4: "u32",
    5: "i32",
    6: "f32",
    7: "bool",
    10: "u64",
    11: "i64",
    12: "f64",
}
WIDTHS = {kind: struct.calcsize(f"<{code}") for kind, code in NUMBER_CODES.items()}
STRING, ARRAY = 8, 9
SMALLEST_KEY = 8 + 1 + 4 + 1  # bytes: length, one letter, type, one value
SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8  # bytes: length, one letter, dimensions, one of them, type, offset


def read_header(path: Path) -> Header:
    """The checked header of the GGUF file at `path`. Raises BadModelFile; a device, pipe or folder is not opened."""

    def read_at(offset: int, length: int) -> bytes:
        with _open_regular(path) as file:
            file.seek(offset)
            return file.read(length)

    with _open_regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size

        def read_open(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        header = read_header_from(read_open, size_bytes, path.name)
    return replace(header, read_at=read_at)


def read_header_from(read_at: ReadAt, size_bytes: int, source: str) -> Header:
    """The checked header of a file of `size_bytes` that `read_at` reads in pieces, none beyond its end.
    source: what messages call the file. Raises BadModelFile."""
    cursor = _Cursor(read_at, size_bytes, source)
    version, tensor_count, key_count = _opening(cursor)
    places: dict[str, range] = {}
    metadata = MappingProxyType(_metadata(cursor, key_count, places))
    alignment = _alignment(cursor, metadata.get("general.alignment", DEFAULT_ALIGNMENT))
    tensors = _tensors(cursor, tensor_count)
    data_offset = _padded(cursor.position, alignment) if tensors else cursor.position
    placed = tuple(_placed(cursor, tensors, data_offset, alignment))
    header = Header(source, version, metadata, placed, alignment, data_offset, size_bytes, read_at, places)
    check_meaning(header)
    return header


def check_split(paths: Sequence[Path]) -> tuple[Header, ...]:
    """The headers of a split model's parts, in order, once they belong together. Raises BadModelFile."""
    headers = tuple(read_header(path) for path in paths)
    first = headers[0]
    for number, (path, header) in enumerate(zip(paths, headers, strict=True)):
        if len(paths) == 1 and header.split is None:
            return headers
        if header.split != (number, len(paths)):
            raise BadModelFile(
                f"{path.name} is not part {number + 1} of {len(paths)}.",
                why=_split_in_words(header),
                do="Get all parts, once each.",
            )
        if not re.search(rf"-{number + 1:05}-of-{len(paths):05}\.gguf$", path.name):
            raise BadModelFile(
                f"{path.name} has not the name of part {number + 1}.",
                do=f"Name it …-{number + 1:05}-of-{len(paths):05}.gguf.",
            )
        if header.architecture not in ("", first.architecture) or header.split_tensor_count != first.split_tensor_count:
            raise BadModelFile(
                f"{path.name} and {paths[0].name} are parts of different models.", do="Download them again."
            )
    _check_split_tensors(headers)
    return headers


def _split_in_words(header: Header) -> str:
    return f"It says it is part {header.split[0] + 1} of {header.split[1]}." if header.split else "It says it is whole."


def _check_split_tensors(headers: tuple[Header, ...]) -> None:
    names = [tensor.name for header in headers for tensor in header.tensors]
    if len(set(names)) != len(names) or len(names) != headers[0].split_tensor_count:
        raise BadModelFile(
            f"The parts of {headers[0].source} do not add up.",
            why=f"They hold {len(set(names))} different tensors and {headers[0].split_tensor_count} are announced.",
            do="Download them again.",
        )


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and nothing but a file: reading a device may never end (Ollama, CVE-2024-39721)."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadModelFile(f"{path.name} is not a regular file.", do="Name a GGUF file.")
        # Not to wait for a pipe that took the file's place after the look above.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as exc:
        raise BadModelFile(f"{path.name} cannot be read.", why=f"{exc.strerror}.", do="Check the path.") from exc
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadModelFile(f"{path.name} is not a regular file.", do="Name a GGUF file.")
        yield file


class _Cursor:
    """Walks forward through a file; every step is checked against the file's end before it is taken."""

    def __init__(self, read_at: ReadAt, size_bytes: int, source: str) -> None:
        self.read_at, self.size_bytes, self.source = read_at, size_bytes, source
        self.position = 0
        self._window, self._start = b"", 0
        self._strings_left, self._kept_left = MAX_STRINGS, MAX_KEPT_BYTES

    @property
    def left(self) -> int:
        return self.size_bytes - self.position

    def damaged(self, why: str) -> BadModelFile:
        return BadModelFile(f"{self.source} is damaged.", why=why, do="Download it again.")

    def cut_short(self, missing: int, where: str) -> BadModelFile:
        why = f"At least {missing:,} bytes are missing: it ends after {self.size_bytes:,}, inside {where}."
        return BadModelFile(f"{self.source} is cut short.", why=why, do="Download it again.")

    def overrun(self, beyond: int, where: str) -> BadModelFile:
        """A string in `where` that ends `beyond` the file's end: a download stops early, but not so early."""
        if beyond > self.size_bytes:
            return self.damaged(
                f"The length of a string in {where} points {beyond:,} bytes beyond the end of the file."
            )
        return self.cut_short(beyond, where)

    def take(self, length: int, where: str) -> bytes:
        """The next `length` bytes, at most a window."""
        at = self._reach(length, where)
        self.position += length
        return self._window[at : at + length]

    def number(self, kind: str, where: str) -> int:
        (value,) = struct.unpack(f"<{NUMBER_CODES[kind]}", self.take(WIDTHS[kind], where))
        return int(value)

    def skip(self, length: int, where: str) -> None:
        if length > self.left:
            raise self.cut_short(length - self.left, where)
        self.position += length

    def skip_strings(self, count: int, where: str) -> None:
        self._strings_left -= count
        if self._strings_left < 0:
            raise self.damaged(f"It holds more than {MAX_STRINGS:,} strings.")
        unpack = struct.Struct("<Q").unpack_from
        while count:
            at = self._reach(8, where)
            window, last = self._window, len(self._window) - 8
            while count and at <= last:
                at += 8 + unpack(window, at)[0]
                count -= 1
            self.position = self._start + at
            if self.left < 0:
                raise self.overrun(-self.left, where)

    def keep(self, stored: Stored, where: str) -> Value:
        """The value between `stored.offset` and here, or `stored` itself where it is better left in the file."""
        if stored.count > KEPT_COUNT or stored.size_bytes > KEPT_BYTES:
            return stored
        self._charge(stored.size_bytes)
        end, self.position = self.position, stored.offset
        data = self.take(stored.size_bytes, where)
        self.position = end
        return decode(stored, data)

    def text(self, longest: int, where: str) -> str:
        """A short string: UTF-8 without a zero, for the engine compares such names as C strings."""
        length = self.number("u64", where)
        if not 0 < length <= longest:
            raise self.damaged(f"The length of {where} is {length:,}, not 1 to {longest:,}.")
        self._charge(length)
        data = self.take(length, where)
        try:
            text = data.decode()
        except UnicodeDecodeError as exc:
            raise self.damaged(f"There is no UTF-8 in {where}.") from exc
        if "\0" in text:
            raise self.damaged(f"There is a zero byte in {where}.")
        return text

    def _charge(self, size_bytes: int) -> None:
        self._kept_left -= size_bytes
        if self._kept_left < 0:
            raise self.damaged(f"It holds more than {MAX_KEPT_BYTES >> 20} MiB of names and metadata.")

    def _reach(self, length: int, where: str) -> int:
        """Where in the window the next `length` bytes begin, read from the file where they are not in it yet."""
        if length > self.left:
            raise self.cut_short(length - self.left, where)
        at = self.position - self._start
        if at < 0 or at + length > len(self._window):
            wanted = min(max(length, WINDOW_BYTES), self.left)
            self._window, self._start, at = self.read_at(self.position, wanted), self.position, 0
            if len(self._window) != wanted:
                raise BadModelFile(f"{self.source} changed while it was read.", do="Try again once it is complete.")
        return at


def _opening(cursor: _Cursor) -> tuple[int, int, int]:
    """(version, tensors, keys)"""
    start = cursor.take(min(24, cursor.left), "the first bytes")
    if start[:4] != b"GGUF":
        do = AS_GGUF if start[:4] in OLD_FORMATS else "Check the name or address it came from."
        raise BadModelFile(f"{cursor.source} is not a GGUF file.", why=_looks_like(start), do=do)
    if len(start) < 24:
        raise cursor.cut_short(24 - len(start), "the first bytes")
    version, tensors, keys = struct.unpack("<IQQ", start[4:])
    if version & 0xFFFF == 0:
        raise BadModelFile(
            f"{cursor.source} is a big-endian GGUF.",
            do="Convert it with `gguf-convert-endian` or get the usual, little-endian one.",
        )
    if version not in (2, 3):
        raise BadModelFile(
            f"{cursor.source} is GGUF version {version:,}.",
            why="This engine reads versions 2 and 3.",
            do="Get a newer conversion of the model.",
        )
    _count(cursor, keys, MAX_KEYS, SMALLEST_KEY, "metadata keys")
    _count(cursor, tensors, MAX_TENSORS, SMALLEST_TENSOR, "tensors")
    return version, tensors, keys


def _count(cursor: _Cursor, count: int, most: int, smallest: int, what: str) -> None:
    if count > most:
        raise cursor.damaged(f"It claims {count:,} {what}; no model has more than {most:,}.")
    if count * smallest > cursor.left:
        raise cursor.cut_short(count * smallest - cursor.left, f"its {count:,} {what}")


OLD_FORMATS = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT"}
AS_GGUF = "Download the model again as GGUF: `filbert pull NAME`; `filbert search WORDS` finds names."
SIGNATURES = (
    (b"<", "It looks like a web page: a login or an error was saved in its place."),
    (b"version https://git-lfs", "It is a Git LFS pointer, not the file it points to."),
    (b"PK\x03\x04", "It looks like a zip archive or a PyTorch checkpoint."),
    (b"\x80", "It looks like a Python pickle, which can run code and is never opened."),
    (b"\x1f\x8b", "It looks like a gzip archive."),
    (b"{", "It looks like JSON: an error message was saved in its place."),
    *((signature, f"It is in the old {name} format of before August 2023.") for signature, name in OLD_FORMATS.items()),
)


def _looks_like(start: bytes) -> str:
    if not start:
        return "It is empty."
    if start[8:10] == b'{"' and start[5:8] == b"\0\0\0":
        return "It looks like a safetensors file, which has to be converted first."
    return next(
        (words for signature, words in SIGNATURES if start.lstrip().startswith(signature)),
        "Its first bytes are unknown.",
    )


def _metadata(cursor: _Cursor, count: int, places: dict[str, range]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for number in range(count):
        start = cursor.position
        key = cursor.text(MAX_KEY_BYTES, f"metadata key {number + 1} of {count}")
        if key in found:
            raise cursor.damaged(f"The key {key!r:.80} is there twice.")
        found[key] = _value(cursor, f"{key!r:.80}")
        places[key] = range(start, cursor.position)
    return found


def _value(cursor: _Cursor, where: str) -> Value:
    kind = cursor.number("u32", where)
    if kind in NUMBERS:
        return _one(cursor, NUMBERS[kind], where)
    if kind == STRING:
        return _long_text(cursor, where)
    if kind == ARRAY:
        return _array(cursor, where)
    raise cursor.damaged(f"{where} has the unknown type {kind}.")


def _one(cursor: _Cursor, kind: str, where: str) -> int | float:
    data = cursor.take(WIDTHS[kind], where)
    _check_booleans(cursor, kind, data, where)
    value: int | float = struct.unpack(f"<{NUMBER_CODES[kind]}", data)[0]
    return value


def _check_booleans(cursor: _Cursor, kind: str, data: bytes, where: str) -> None:
    if kind == "bool" and data.strip(b"\0\1"):
        raise cursor.damaged(f"{where} is a boolean and neither 0 nor 1.")


def _long_text(cursor: _Cursor, where: str) -> Value:
    length = cursor.number("u64", where)
    offset = cursor.position
    if length > cursor.left:
        raise cursor.overrun(length - cursor.left, where)
    cursor.skip(length, where)
    return cursor.keep(Stored("text", 1, offset, length), where)


def _array(cursor: _Cursor, where: str) -> Value:
    kind, count = cursor.number("u32", where), cursor.number("u64", where)
    if kind != STRING and kind not in NUMBERS:
        raise cursor.damaged(f"{where} is an array of the unknown or nested type {kind}.")
    smallest = 8 if kind == STRING else WIDTHS[NUMBERS[kind]]
    _count(cursor, count, MAX_ARRAY_COUNT, smallest, f"values in {where}")
    offset = cursor.position
    if kind == STRING:
        cursor.skip_strings(count, where)
        return cursor.keep(Stored("string", count, offset, cursor.position - offset), where)
    if NUMBERS[kind] == "bool":
        return _booleans(cursor, count, where)
    cursor.skip(count * smallest, where)
    return cursor.keep(Stored(NUMBERS[kind], count, offset, count * smallest), where)


def _booleans(cursor: _Cursor, count: int, where: str) -> Value:
    if count > KEPT_COUNT:
        raise cursor.damaged(f"{where} is an array of {count:,} booleans.")
    data = cursor.take(count, where)
    _check_booleans(cursor, "bool", data, where)
    return tuple(bool(byte) for byte in data)


def _alignment(cursor: _Cursor, value: Value) -> int:
    if not isinstance(value, int) or not 1 <= value <= WINDOW_BYTES or value & (value - 1):
        raise cursor.damaged(f"general.alignment is {value!r}, not a power of two up to {WINDOW_BYTES:,}.")
    return value


def _tensors(cursor: _Cursor, count: int) -> list[Tensor]:
    """The tensors with their offsets as written, from the start of the data."""
    found: dict[str, Tensor] = {}
    for number in range(count):
        name = cursor.text(MAX_TENSOR_NAME_BYTES, f"the name of tensor {number + 1} of {count}")
        if name in found:
            raise cursor.damaged(f"The tensor {name!r} is there twice.")
        found[name] = _tensor(cursor, name)
    return list(found.values())


def _tensor(cursor: _Cursor, name: str) -> Tensor:
    where = f"tensor {name!r}"
    dimensions = cursor.number("u32", where)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.damaged(f"The {where} has {dimensions:,} dimensions.")
    shape = struct.unpack(f"<{dimensions}Q", cursor.take(8 * dimensions, where))
    weights = 1
    for length in shape:
        weights *= length
    if not 0 < weights < 1 << 63 or max(shape) >= 1 << 63:
        raise cursor.damaged(f"The {where} has the impossible shape {list(shape)}.")
    kind = TENSOR_TYPES.get(number := cursor.number("u32", where))
    if kind is None:
        raise cursor.damaged(f"The {where} is of type {number:,}, which this engine does not know.")
    if shape[0] % kind.block:
        rows = f"has rows of {shape[0]:,} weights, no multiple of the {kind.block} that {kind.name} packs together"
        raise cursor.damaged(f"The {where} {rows}.")
    return Tensor(name, shape, kind.name, cursor.number("u64", where), weights // kind.block * kind.size_bytes, weights)


def _placed(cursor: _Cursor, tensors: Sequence[Tensor], data_offset: int, alignment: int) -> Iterator[Tensor]:
    """Each tensor with its offset in the file: one behind the other without gaps, as the engine demands, and inside.

    So none overlaps another and none reaches beyond the end (Ollama's "Bleeding Llama", CVE-2026-7482).
    """
    expected = end = 0
    for tensor in tensors:
        if tensor.offset != expected:
            raise cursor.damaged(
                f"The tensor {tensor.name!r} is said to begin at {tensor.offset:,}, not at {expected:,}."
            )
        end = data_offset + expected + tensor.size_bytes
        yield replace(tensor, offset=data_offset + expected)
        expected = _padded(expected + tensor.size_bytes, alignment)
    if end > cursor.size_bytes:
        missing, inside = end - cursor.size_bytes, _tensor_at(cursor.size_bytes, tensors, data_offset)
        why = f"{missing:,} of {end:,} bytes are missing: it ends inside {inside}."
        raise BadModelFile(f"{cursor.source} is cut short.", why=why, do="Download it again.")


def _tensor_at(position: int, tensors: Sequence[Tensor], data_offset: int) -> str:
    if position < data_offset:
        return "its header"
    inside = [tensor.name for tensor in tensors if data_offset + tensor.offset <= position]
    return f"the tensor {inside[-1]!r}"


def _padded(position: int, alignment: int) -> int:
    return (position + alignment - 1) // alignment * alignment
