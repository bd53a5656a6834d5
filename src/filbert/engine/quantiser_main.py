"""The quantiser: reads rows of a tensor out of one file, writes them quantised into another, or tells how much is lost.

Told once {"threads": …, "memory_limit": …}; then one answer a tensor, {"answer": …} or {"error": …}. Before it comes
{"rows": …} for each part, which shows that it lives. {"task": …, "target": …} is written; of {"task": …, "types": …}
each type's error is told. The importance of each column weighs its error; it is read from an
importance matrix as llama-quantize reads it (tools/quantize).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filbert.core.errors import BadModelFile, EngineError
from filbert.engine.answering import Say, answer_each
from filbert.engine.capi import NUMBERS, Engine, Floats, open_engine
from filbert.engine.lifeline import bound_memory
from filbert.models.gguf_write import size_of
from filbert.models.header import no_numbers

PART_BYTES = 48 << 20  # of numbers held at once, as F32
CHUNK = 1 << 16  # numbers a thread takes at a time, at most
SAMPLE = 1 << 18  # numbers of a tensor of which an error is told: types are compared on the same ones
Bytes = NDArray[np.uint8]
Rows = Callable[[int, int], Floats]  # those between two numbers


@dataclass(frozen=True, slots=True)
class Task:
    """n_rows: in all matrices of the tensor together; row: numbers in one; matrix: rows in one. source: the file, and
    where in it."""

    name: str
    row: int
    n_rows: int
    matrix: int
    source: tuple[str, int]
    type: str
    to: str
    importance: dict[str, Any] | None

    @property
    def parts(self) -> Iterator[tuple[int, int]]:
        step = max(1, PART_BYTES // (4 * self.row))
        for first in range(0, self.n_rows, step):
            yield first, min(self.n_rows, first + step)


class Quantiser:
    def __init__(self, engine: Engine, pool: ThreadPoolExecutor, threads: int) -> None:
        """threads: of the pool."""
        self._engine = engine
        self._pool = pool
        self._n_threads = threads
        self._files = threading.local()

    def quantise(self, task: Task, target: tuple[str, int]) -> Iterator[int]:
        """The rows done, after each part. target: the file, and where in it. Raises BadInput for a weight that is no
        number."""
        importance, size, alone = importances(task), size_of((task.row,), task.to), threading.Lock()
        with Path(target[0]).open("r+b") as file:

            def write(row: int, data: Bytes) -> None:
                with alone:
                    file.seek(target[1] + row * size)
                    file.write(data.data)

            for first, last in task.parts:
                self._each(self._read(task), task, first, last, importance, write)
                yield last

    def rounded(self, task: Task, first: int, last: int, importance: Floats | None) -> Bytes:
        """What rows between two numbers become. Raises BadInput for a weight that is no number."""
        return self._quantised(self._read(task), task, first, last, importance)

    def _read(self, task: Task) -> Rows:
        """Those of its file."""
        size = size_of((task.row,), task.type)

        def rows(start: int, end: int) -> Floats:
            stored, source = np.empty((end - start, size), np.uint8), self._opened(task.source[0])
            source.seek(task.source[1] + start * size)
            if source.readinto(stored.data) < stored.size:  # mapped pages take twice as long to come
                raise BadModelFile(f"{task.source[0]} ends within {task.name}.", do="Get the file again.")
            return self._numbers(stored, task.type, task.row)

        return rows

    def errors(self, task: Task, types: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Of each type the sum over weights of (error² x mean square of what the weight is multiplied with), as a share
        of that sum of the weights themselves; told by some rows of each matrix. A matrix of experts counts as often as
        it was used."""
        matrices = task.n_rows // task.matrix
        n = max(1, min(task.matrix, SAMPLE // (task.row * matrices)))
        sample = replace(task, n_rows=matrices * n, matrix=n)
        rows = self._some(task, n)
        importance, used = importances(task), usages(task)

        def energy(values: Floats) -> float:
            squares = np.square(values).reshape(matrices, n, task.row)
            return float(np.einsum("mnr,mr->", squares, used, dtype=np.float64))

        whole = energy(rows) or 1.0
        for kind in types:
            asked = replace(sample, to=kind)
            back = self.dequantised(self.quantised(rows, asked, 0, importance), kind, len(rows), task.row)
            yield kind, energy(back - rows) / whole

    def _opened(self, path: str) -> FileIO:
        """Each thread reads for itself, and opens a file once."""
        if getattr(self._files, "path", None) != path:
            self._files.file, self._files.path = FileIO(path), path
        found: FileIO = self._files.file
        return found

    def _some(self, task: Task, n: int) -> Floats:
        """Rows of each matrix, evenly spread."""
        size, matrices = size_of((task.row,), task.type), task.n_rows // task.matrix
        stored = np.memmap(task.source[0], np.uint8, "r", task.source[1], (matrices, task.matrix, size))
        some = np.ascontiguousarray(stored[:, np.arange(n) * task.matrix // n]).reshape(-1)
        return self.dequantised(some, task.type, matrices * n, task.row)

    def dequantised(self, data: Bytes, kind: str, n_rows: int, row: int) -> Floats:
        stored, rows = data.reshape(n_rows, -1), np.empty((n_rows, row), np.float32)

        def work(span: tuple[int, int]) -> None:
            rows[slice(*span)] = self._numbers(stored[slice(*span)], kind, row)

        list(self._pool.map(work, spans(0, n_rows, n_rows, self._share(n_rows, row))))
        return rows

    def _numbers(self, stored: Bytes, kind: str, row: int) -> Floats:
        """Rows of a file as numbers, by one thread."""
        if kind == "F32":
            return stored.view(np.float32)
        if kind == "BF16":
            return (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        rows = np.empty((len(stored), row), np.float32)
        convert = self._engine.lib.ggml_get_type_traits(NUMBERS[kind.lower()]).to_float
        convert(self._at(stored, 0), self._floats(rows), rows.size)
        return rows

    def quantised(self, rows: Floats, task: Task, first: int, importance: Floats | None) -> Bytes:
        """first: the number of the first row in its tensor."""

        def some(start: int, end: int) -> Floats:
            return rows[start - first : end - first]

        return self._quantised(some, task, first, first + len(rows), importance)

    def _quantised(self, rows: Rows, task: Task, first: int, last: int, importance: Floats | None) -> Bytes:
        whole = np.empty((last - first, size_of((task.row,), task.to)), np.uint8)

        def keep(row: int, data: Bytes) -> None:
            whole[row - first : row - first + len(data)] = data

        self._each(rows, task, first, last, importance, keep)
        return whole.reshape(-1)

    def _each(
        self,
        rows: Rows,
        task: Task,
        first: int,
        last: int,
        importance: Floats | None,
        keep: Callable[[int, Bytes], None],
    ) -> None:
        """keep: what becomes of rows, from a number on. Both are called by all threads, out of order."""
        ffi, lib, kind = self._engine.ffi, self._engine.lib, NUMBERS[task.to.lower()]
        size = size_of((task.row,), task.to)

        def work(span: tuple[int, int]) -> None:
            start, end = first + span[0], first + span[1]
            numbers, data = rows(start, end), np.empty((end - start, size), np.uint8)
            if not np.isfinite(numbers).all():
                raise no_numbers(task.name)
            weights = ffi.NULL if importance is None else self._floats(importance[start // task.matrix])
            target = self._at(data, 0)
            written = lib.ggml_quantize_chunk(kind, self._floats(numbers), target, 0, end - start, task.row, weights)
            if written != data.size or not lib.ggml_validate_row_data(kind, target, written):
                raise EngineError(f"The engine could not quantise {task.name}.", do="Choose another type for it.")
            keep(start, data)

        list(self._pool.map(work, spans(first, last - first, task.matrix, self._share(last - first, task.row))))

    def _share(self, n_rows: int, row: int) -> int:
        """Rows that a thread takes at a time, so that all are done at once."""
        least = -(-n_rows * row // CHUNK)
        return -(-n_rows // (least + -least % self._n_threads))

    def _floats(self, rows: Floats) -> Any:
        return self._engine.ffi.cast("float *", rows.ctypes.data)

    def _at(self, data: Bytes, offset: int) -> Any:
        return self._engine.ffi.cast("void *", data.ctypes.data + offset)


def spans(first: int, n_rows: int, matrix: int, step: int) -> Iterator[tuple[int, int]]:
    """Rows counted from `first`, none of two matrices in one span: each has an importance of its own."""
    start = 0
    while start < n_rows:
        left = matrix - (first + start) % matrix
        end = min(n_rows, start + min(step, left))
        yield start, end
        start = end


def importances(task: Task) -> Floats | None:
    """Of shape (matrices, columns): means of squares, 1 throughout for a matrix that nothing came to."""
    if not task.importance:
        return None
    sums, counts = _sums(task.importance, task)
    means = np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0).reshape(-1, task.row)
    means[~means.any(1)] = 1
    return means


def usages(task: Task) -> Floats:
    """As `importances`, but that of a matrix which few tokens came to is smaller by as much."""
    matrices = task.n_rows // task.matrix
    if not task.importance:
        return np.ones((matrices, task.row), np.float32)
    sums, counts = _sums(task.importance, task)
    return (sums / counts.mean() if counts.any() else np.ones_like(sums)).reshape(matrices, task.row)


def _sums(importance: dict[str, Any], task: Task) -> tuple[Floats, Floats]:
    """Of shape (counts, columns of what is counted together), and (counts, 1)."""
    n_counts, n = importance["n_counts"], task.n_rows // task.matrix * task.row
    sums = np.fromfile(importance["path"], np.float32, n, offset=importance["sums"]).reshape(n_counts, -1)
    return sums, np.fromfile(importance["path"], np.float32, n_counts, offset=importance["counts"]).reshape(-1, 1)


def answered(quantiser: Quantiser, say: Say, question: dict[str, Any]) -> Any:
    task = Task(**question["task"])
    if types := question.get("types"):
        found = {}
        for kind, error in quantiser.errors(task, types):
            found[kind] = error
            say({"rows": 0})
        return found
    for done in quantiser.quantise(task, question["target"]):
        say({"rows": done})
    return {}


def start(config: dict[str, Any], say: Say) -> Callable[[dict[str, Any]], Any]:
    bound_memory(config["memory_limit"])
    threads = config["threads"]
    return partial(answered, Quantiser(open_engine(), ThreadPoolExecutor(threads), threads), say)


if __name__ == "__main__":
    answer_each(start)
