"""The divergence's child: how far a model's predictions are from those of the full one, on windows of some texts.

Told once what to load. {"folder": …, "texts": …, "most": …} writes down what the full model says of each window;
{"folder": …} tells of the loaded model, window by window, how far it is from that; {"folder": …, "swap": [tensor, …]}
does so of the full model with these tensors rounded: they are replaced in its memory by what another type makes of
them, and put back. Before each {"answer": …} or {"error": …} comes {"window": …, "of": …} of each window, and
{"rows": …} or {"decoded": …} of each part, which shows that it lives.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from filbert.core.errors import BadInput, BadModelFile, EngineError
from filbert.core.files import need_room, write_whole
from filbert.engine.answering import Say, answer_each
from filbert.engine.capi import Context, Floats, Weights, open_engine
from filbert.engine.kept_logits import Said, beside, keep, kept, said, size_of_kept
from filbert.engine.lifeline import bound_memory
from filbert.engine.likelihood import SideBySide, predicting
from filbert.engine.quantiser_main import Bytes, Quantiser, Task, importances
from filbert.engine.scorer_main import by_token, finite, read_as_windows, sequence
from filbert.models.gguf_write import size_of

WINDOWS = "windows.json"  # written last: where it is, all is kept
PROBE = [0, 0]  # tokens whose graph shows every matrix
Windows = list[list[list[int]]]  # tokens, a window, of each text


class Divergence:
    """A loaded model. full: it can be written to."""

    def __init__(self, config: dict[str, Any], say: Say) -> None:
        self._say, self._window, self._threads = say, config["window"], config["threads"]
        self._pool = unbound(self._threads)
        engine, full = open_engine(), config["full"]
        self._weights = Weights(engine, config["path"], config["adapters"], as_stored=full, writable=full)
        self._quantiser = Quantiser(engine, self._pool, self._threads)
        self._memory = Memory(self._weights) if full else None
        self._context = Context(self._weights, self._window, self._threads, lambda n: say({"decoded": n}))

    def keep(self, folder: str, texts: Sequence[tuple[str, bool]], most: int) -> dict[str, Any]:
        """Write down what the model says of at most so many windows of each text; what an earlier run wrote stays."""
        windows = [read_as_windows(self._weights, [text], self._window)[:most] for text in texts]
        for number, found in enumerate(windows, 1):
            if not found:
                raise BadInput(
                    f"Text {number} is too short.",
                    why=f"The part of it to measure with has less than one window of {self._window} tokens.",
                    do="Give a longer text, or choose a shorter window.",
                )
        files, n = self._files(folder, windows), sum(map(len, windows))
        missing = [(file, tokens) for file, tokens in files if not self._is_kept(file)]
        need_room(Path(folder), len(missing) * self._kept_bytes)
        for number, (file, tokens) in enumerate(missing, n - len(missing)):
            self._say({"window": number, "of": n})
            parts = list(self._parts(tokens, said))
            if not all(np.isfinite(part.nll).all() for part in parts):
                raise BadModelFile("The full model gives no numbers.", why="It says NaN.", do="Get the model again.")
            keep(file, parts)
        with write_whole(Path(folder) / WINDOWS) as story:
            story.write(json.dumps(windows).encode())
        return {}

    def compare(self, folder: str) -> Iterator[SideBySide]:
        """Of each window, a row a token that predicts another one of it."""
        windows: Windows = json.loads((Path(folder) / WINDOWS).read_text("utf-8"))
        files = self._files(folder, windows)
        for number, (file, tokens) in enumerate(files):
            self._say({"window": number, "of": len(files)})
            if not self._is_kept(file):
                raise BadInput(
                    "The models have different vocabularies.", do="Compare a model with what it was made of."
                )
            base = kept(file, self._window, self._weights.n_vocab)
            yield predicting(list(self._parts(tokens, beside, base)))

    def swap(self, folder: str, tasks: Sequence[Task]) -> Iterator[SideBySide]:
        assert self._memory
        try:
            for task in tasks:
                self._memory.write(task, self._rounded(task))
            yield from self.compare(folder)
        finally:
            for task in tasks:
                self._memory.write(task, self._stored(task))

    def _rounded(self, task: Task) -> Iterator[Bytes]:
        """A tensor as its own type holds what the other makes of it, part by part."""
        importance = importances(task)
        for first, last in task.parts:
            data = self._quantiser.rounded(task, first, last, importance)
            back = self._quantiser.dequantised(data, task.to, last - first, task.row)
            self._say({"rows": last})
            yield self._quantiser.quantised(back, replace(task, to=task.type), first, None)

    def _stored(self, task: Task) -> Iterator[Bytes]:
        with Path(task.source[0]).open("rb") as source:
            source.seek(task.source[1])
            for first, last in task.parts:
                yield np.frombuffer(source.read(size_of((task.row, last - first), task.type)), np.uint8)

    @property
    def _kept_bytes(self) -> int:
        """Of a window."""
        return size_of_kept(self._window, self._weights.n_vocab)

    def _is_kept(self, file: Path) -> bool:
        return file.exists() and file.stat().st_size == self._kept_bytes

    def _files(self, folder: str, windows: Windows) -> list[tuple[Path, list[int]]]:
        return [(Path(folder) / f"{i}-{j}", tokens) for i, of in enumerate(windows) for j, tokens in enumerate(of)]

    def _parts(self, tokens: list[int], reckon: Any, base: Said | None = None) -> Iterator[Any]:
        """What `reckon` makes of the logits, by all threads: of rows of logits, of the base's, and of the tokens that
        come."""
        self._context.clear()
        targets = [*tokens[1:], 0]
        for part, logits in self._context.decode(sequence(tokens)):
            step = -(-len(logits) // self._threads)
            spans = [slice(first, first + step) for first in range(0, len(logits), step)]

            def work(span: slice, part: slice = part, logits: Floats = logits) -> Any:
                rows = slice(part.start + span.start, min(part.start + span.stop, part.stop))
                return reckon(logits[span], *([base[rows]] if base else []), targets[rows])

            yield from self._pool.map(work, spans)


def unbound(threads: int) -> ThreadPoolExecutor:
    """Threads that may run on all cores: the engine binds the one that calls it to one of them, and who it begets."""
    if not hasattr(os, "sched_setaffinity"):
        return ThreadPoolExecutor(threads)
    everywhere = os.sched_getaffinity(0)
    return ThreadPoolExecutor(threads, initializer=lambda: os.sched_setaffinity(0, everywhere))


class Memory:
    """Where the tensors of a loaded model lie, by name; a tied embedding lies in two places."""

    def __init__(self, weights: Weights) -> None:
        self._engine = engine = weights.engine
        self._found: defaultdict[str, dict[int, Any]] = defaultdict(dict)
        callback = engine.ffi.callback("ggml_backend_sched_eval_callback", self._called)
        for _ in Context(weights, len(PROBE), 1, watch=callback).decode(sequence(PROBE)):
            pass

    def write(self, task: Task, parts: Iterator[Bytes]) -> None:
        if task.name not in self._found:
            raise EngineError(f"The engine does not use {task.name}.", do="Compress it by a recipe.")
        offset = 0
        for data in parts:
            for tensor in self._found[task.name].values():
                source = self._engine.ffi.cast("void *", data.ctypes.data)
                self._engine.lib.ggml_backend_tensor_set(tensor, source, offset, data.nbytes)
            offset += data.nbytes

    def _called(self, node: Any, ask: bool, _: Any) -> bool:
        """Of each node of the graph, what it is made of: weights are those that nothing makes."""
        ffi, lib = self._engine.ffi, self._engine.lib
        for tensor in node.src:
            while tensor != ffi.NULL and tensor.view_src != ffi.NULL:
                tensor = tensor.view_src
            if tensor != ffi.NULL and tensor.op == lib.GGML_OP_NONE:
                name = ffi.string(tensor.name).decode(errors="replace")
                self._found[name][int(ffi.cast("uintptr_t", tensor))] = tensor
        return not ask


def answered(loaded: Divergence, question: dict[str, Any]) -> Any:
    folder = question["folder"]
    if "texts" in question:
        return loaded.keep(folder, question["texts"], question["most"])
    if "swap" in question:
        return [finite(found.kl.mean()) for found in loaded.swap(folder, [Task(**task) for task in question["swap"]])]
    return [by_token(found) for found in loaded.compare(folder)]


def start(config: dict[str, Any], say: Say) -> Callable[[dict[str, Any]], Any]:
    bound_memory(config["memory_limit"])
    return partial(answered, Divergence(config, say))


if __name__ == "__main__":
    answer_each(start)
