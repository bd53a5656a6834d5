"""The importance's child: decodes windows of a text and sums the squares of what each matrix is multiplied with.

Told once what to load and where to write; says {"window": …, "of": …} after each, then {"answer": …} or {"error": …}.
What is summed, and the file, are as llama-imatrix has them (llama.cpp, tools/imatrix): a window begins with BOS where
the vocabulary adds one, and of a matrix of experts each has sums of its own. Now and then the file is written as far as
it goes, so that who asks the same again goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import write_whole
from filbert.engine.answering import Say, answer_once
from filbert.engine.capi import Context, Engine, Floats, Weights, open_engine
from filbert.engine.lifeline import bound_memory
from filbert.engine.scorer_main import read_as_windows, sequence
from filbert.models.gguf import read_header
from filbert.models.gguf_write import Value, header_bytes, padded, placed
from filbert.models.header import Tensor

SUMS, COUNTS = ".in_sum2", ".counts"
FEW = 16  # rows under which llama.cpp takes a product for something else than a text
Sums = NDArray[np.float64]


@dataclass(slots=True)
class Seen:
    """Sums of squares, a row a count: of each matrix a row, or of all in one after the other."""

    squares: Sums
    counts: Sums


class Collector:
    """names: the matrices that count."""

    def __init__(self, engine: Engine, names: Collection[str]) -> None:
        self.seen: dict[str, Seen] = {}
        self._engine, self._names = engine, frozenset(names)
        self.callback = engine.ffi.callback("ggml_backend_sched_eval_callback", self._called)

    def _called(self, tensor: Any, ask: bool, _: Any) -> bool:
        lib = self._engine.lib
        if tensor.op not in (lib.GGML_OP_MUL_MAT, lib.GGML_OP_MUL_MAT_ID):
            return not ask
        name = self._engine.ffi.string(tensor.src[0].name).decode(errors="replace")
        if name not in self._names or tensor.src[1].type != lib.GGML_TYPE_F32:
            return not ask
        by_expert = tensor.op == lib.GGML_OP_MUL_MAT_ID
        if ask:
            return bool(by_expert or tensor.src[1].ne[1] >= FEW)
        matrices, values = tensor.src[0].ne[2] * tensor.src[0].ne[3], self._values(tensor.src[1])
        seen = self.seen.get(name)
        if seen is None:
            n_counts = matrices if by_expert else 1
            squares = np.zeros((n_counts, matrices * values.shape[-1] // n_counts))
            seen = self.seen[name] = Seen(squares, np.zeros((n_counts, 1)))
        if by_expert:
            self._add_by_expert(seen, values, self._values(tensor.src[2], np.int32)[0, 0])
        else:
            self._add(seen, values, matrices)
        return True

    def _add(self, seen: Seen, values: Floats, matrices: int) -> None:
        """values: of shape (…, rows, columns); where there are more of them than matrices, these are taken in turn."""
        squares = seen.squares.reshape(matrices, -1)
        for i, rows in enumerate(values.reshape(-1, *values.shape[2:])):
            squares[i % matrices] += np.einsum("rc,rc->c", rows, rows)
        seen.counts += values.size // values.shape[-1] / matrices

    def _add_by_expert(self, seen: Seen, values: Floats, experts: NDArray[np.int32]) -> None:
        """experts: of shape (tokens, used); values: (1, tokens, used or 1, columns)."""
        rows = np.broadcast_to(values[0], (*experts.shape, values.shape[-1]))
        for expert in np.unique(experts):
            chosen = rows[experts == expert]
            seen.squares[expert] += np.einsum("rc,rc->c", chosen, chosen)
            seen.counts[expert] += len(chosen)

    def _values(self, tensor: Any, kind: type[np.generic] = np.float32) -> Any:
        """As rows, outermost first: of shape (ne3, ne2, ne1, ne0). kind: of its numbers, four bytes each."""
        shape, strides = (tuple(lengths[i] for i in (3, 2, 1, 0)) for lengths in (tensor.ne, tensor.nb))
        size = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 4
        data = np.empty(size, np.uint8)
        self._engine.lib.ggml_backend_tensor_get(tensor, self._engine.ffi.cast("void *", data.ctypes.data), 0, size)
        return np.lib.stride_tricks.as_strided(data.view(kind), shape, strides)


def collect(config: Mapping[str, Any], say: Say) -> dict[str, Any]:
    bound_memory(config["memory_limit"])
    engine = open_engine()
    weights = Weights(engine, config["path"], as_stored=True)
    collector = Collector(engine, config["names"])
    windows = read_as_windows(weights, config["texts"], config["window"])
    if not windows:
        raise BadInput(
            f"The text has less than {config['window']} tokens.",
            why="They are one window.",
            do="Give a longer text, or choose a shorter window.",
        )
    target = Path(config["target"])
    done = resumed(collector, target, config["identity"])
    context = Context(weights, config["window"], config["threads"], watch=collector.callback)
    kept = time.monotonic()
    for number, tokens in enumerate(windows[done:], done + 1):
        context.clear()
        for _ in context.decode(sequence(tokens)):
            pass
        if damaged := next((name for name, seen in collector.seen.items() if not np.isfinite(seen.squares).all()), ""):
            raise BadModelFile(f"{damaged} is multiplied with what is no number.", do="Get the model again.")
        if time.monotonic() - kept > config["kept_each_s"] or number == len(windows):
            write(collector.seen, target, config, number)
            kept = time.monotonic()
        say({"window": number, "of": len(windows)})
    return {}


def write(seen: Mapping[str, Seen], target: Path, config: Mapping[str, Any], n_windows: int) -> None:
    said: dict[str, Value] = {
        "general.type": "imatrix",
        "imatrix.datasets": config["datasets"],
        "imatrix.chunk_count": n_windows,
        "imatrix.chunk_size": config["window"],
        "filbert.identity": config["identity"],
    }
    data = {}
    for name in sorted(seen):
        data[name + SUMS] = seen[name].squares.astype(np.float32)
        data[name + COUNTS] = seen[name].counts.astype(np.float32)
    places = placed((name, values.shape[::-1], "F32") for name, values in data.items())
    with write_whole(target) as file:
        file.write(header_bytes(None, said, places))
        for values in data.values():
            file.write(values.tobytes().ljust(padded(values.nbytes), b"\0"))


def resumed(collector: Collector, target: Path, identity: str) -> int:
    """Windows that an earlier run of the same has summed; they are taken over."""
    if not target.exists():
        return 0
    header = read_header(target)
    if header.text("filbert.identity") != identity:
        return 0
    found = {tensor.name: read(target, tensor) for tensor in header.tensors}
    for name in (name.removesuffix(COUNTS) for name in found if name.endswith(COUNTS)):
        collector.seen[name] = Seen(found[name + SUMS], found[name + COUNTS])
    return int(str(header.metadata["imatrix.chunk_count"]))


def read(file: Path, tensor: Tensor) -> Sums:
    values = np.fromfile(file, np.float32, tensor.count, offset=tensor.offset)
    return values.astype(np.float64).reshape(tensor.shape[::-1])


if __name__ == "__main__":
    answer_once(collect)
