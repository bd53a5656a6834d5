"""What Qt's QDataStream writes (Qt_6_2 and newer): big-endian numbers, texts in UTF-16 with their length in bytes.

A length is held against what is left of the file before anything is read, and all texts together against a bound.
https://doc.qt.io/qt-6/datastreamformat.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from filbert.core.errors import BadInput

NULL = 0xFFFFFFFF
MOST_TEXT_BYTES = 64 << 20
OVERHEAD_BYTES = 256  # of what is kept of a text or a value, however short
MOST_DEPTH = 16
NUMBERS = {1: ">?", 2: ">i", 3: ">I", 4: ">q", 5: ">Q", 6: ">d", 38: ">d"}  # QMetaType of a QVariant
MAP, LIST, TEXT, TEXTS, BYTES = 8, 9, 10, 11, 12


class Ended(BadInput):
    """The file ends where more was announced."""


class Malformed(BadInput):
    """What stands there is not what belongs there."""


class QtStream:
    """Reads one thing after another. Raises Ended, Malformed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size - file.tell()
        self._text_left = MOST_TEXT_BYTES

    @property
    def at_end(self) -> bool:
        return self._left == 0

    def number(self, kind: str) -> Any:
        """One of struct's kinds, such as ">q"."""
        return struct.unpack(kind, self._take(struct.calcsize(kind)))[0]

    def flag(self) -> bool:
        return bool(self.number(">b"))

    def integer(self) -> int:
        return int(self.number(">i"))

    def count(self) -> int:
        """A qsizetype. Raises Malformed below zero."""
        value = int(self.number(">q"))
        if value < 0:
            raise Malformed("A count in the file is below zero.")
        return value

    def text(self) -> str:
        size = self._size()
        if size % 2:
            raise Malformed("A text in the file is half a letter long.")
        return self._bounded(size).decode("utf-16-be", "replace")

    def data(self) -> bytes:
        return self._bounded(self._size())

    def skip_data(self) -> None:
        self.skip(self._size())

    def skip(self, size: int) -> None:
        if size > self._left:
            raise Ended("The file is cut.")
        self._file.seek(size, os.SEEK_CUR)
        self._left -= size

    def texts(self) -> list[str]:
        return [self.text() for _ in range(int(self.number(">I")))]

    def variant(self, depth: int = 0) -> Any:
        """A QVariant of JSON's kinds. Raises Malformed for any other."""
        self._charge(0)
        kind, _ = self.number(">I"), self.flag()
        if depth > MOST_DEPTH:
            raise Malformed("A value in the file is too deep.")
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == MAP:
            return {self.text(): self.variant(depth + 1) for _ in range(self.number(">I"))}
        if kind == LIST:
            return [self.variant(depth + 1) for _ in range(self.number(">I"))]
        readers: dict[int, Callable[[], Any]] = {TEXT: self.text, TEXTS: self.texts, BYTES: self._letters}
        if kind and kind not in readers:
            raise Malformed(f"A value in the file has the unknown kind {kind}.")
        return readers[kind]() if kind else None

    def _letters(self) -> str:
        return self.data().decode("latin-1")

    def _size(self) -> int:
        size = int(self.number(">I"))
        return 0 if size == NULL else size

    def _bounded(self, size: int) -> bytes:
        if size > self._left:
            raise Ended("The file is cut.")
        self._charge(size)
        return self._take(size)

    def _charge(self, size: int) -> None:
        self._text_left -= size + OVERHEAD_BYTES
        if self._text_left < 0:
            raise Malformed(f"The chat has more than {MOST_TEXT_BYTES >> 20} MiB of text.")

    def _take(self, size: int) -> bytes:
        if size > self._left:
            raise Ended("The file is cut.")
        self._left -= size
        taken = self._file.read(size)
        if len(taken) < size:
            raise Ended("The file is cut.")
        return taken
