"""The loaded model behind `filbert.compat`: what programs reach through the attribute `model` of a GPT4All."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from filbert.core.machine import cores
from filbert.core.settings import configured
from filbert.engine.generation import TokenLogprob
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.probe import probe
from filbert.models import store
from filbert.models.header import Header

ATLAS_TOKENS = 8192
ENDS = 2  # tokens that the model puts around a text

EmbedCancelled = Callable[[list[int], str], bool]

_warned: set[str] = set()


class CancellationError(Exception):
    """raised when embedding is canceled"""


def warn_once(what: str, why: str) -> None:
    """Name what is accepted and means nothing, the first time in this process."""
    if what not in _warned:
        _warned.add(what)
        warnings.warn(f"{what} has no effect: {why}.", stacklevel=4)


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What an embedder wants before a text, by its makers. document: where the caller names no task."""

    document: str = ""
    others: tuple[str, ...] = ()
    cuts: bool = False  # vectors may be cut shorter (Matryoshka)


NOMIC = ("search_query", "clustering", "classification")
E5_QUERY = "Instruct: Given a query, retrieve relevant passages that answer the query\nQuery"
PREFIXES = {  # by a part of the model's name, the longest first: as gpt4all-backend/src/llamamodel.cpp has them
    "nomic-embed-text-v1.5": Prefixes("search_document", NOMIC, cuts=True),
    "nomic-embed-text-v1": Prefixes("search_document", NOMIC),
    "multilingual-e5": Prefixes("", (E5_QUERY,)),
    "all-minilm": Prefixes(),
    "llm-embedder": Prefixes(
        "Represent this document for retrieval", ("Represent this query for retrieving relevant documents",)
    ),
    "bge-": Prefixes("", ("Represent this sentence for searching relevant passages",)),
    "e5-": Prefixes("passage", ("query",)),
}


class LoadedModel:
    """Starts its engine when something is first asked of it. Safe to use from several threads."""

    def __init__(self, path: str, n_ctx: int, n_threads: int | None, gpu_layers: int) -> None:
        """Raises BadModelFile for a file that is no model."""
        self.model_path = path
        self.n_ctx = n_ctx
        self._gpu_layers = gpu_layers
        self._lock = threading.Lock()
        self._closed = False
        self._engine = self._load(_useful(n_threads) if n_threads else None)

    def _load(self, n_threads: int | None) -> Model:
        options = {"context": max(64, self.n_ctx), "gpu_layers": self._gpu_layers, "threads": n_threads}
        return Model(store.resolve(self.model_path), configured(LoadOptions, options))

    @property
    def engine(self) -> Model:
        """Raises ValueError once it is closed, as the original does."""
        if self._closed:
            self._raise_closed()
        return self._engine

    def _raise_closed(self) -> NoReturn:
        raise ValueError("Attempted operation on a closed LLModel")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._engine.close()

    @property
    def backend(self) -> str:
        return "cpu" if self.device is None else "cuda"

    @property
    def device(self) -> str | None:
        """The graphics card in use; None where the processor computes."""
        if self._closed:
            self._raise_closed()
        gpus = list_gpus() if self._gpu_layers else []
        return gpus[0] if gpus else None

    def thread_count(self) -> int:
        return self.engine.threads

    def set_thread_count(self, n_threads: int) -> None:
        """More threads than the machine has processors would only slow it down, so there are no more."""
        with self._lock:
            if self._closed:
                self._raise_closed()
            if (threads := _useful(n_threads)) != self._engine.threads:
                before, self._engine = self._engine, self._load(threads)
                before.close()

    # Embeddings

    def generate_embeddings(
        self,
        text: str | list[str],
        prefix: str | None,
        dimensionality: int,
        do_mean: bool,
        atlas: bool,
        cancel_cb: EmbedCancelled | None,
    ) -> dict[str, Any]:
        """{"embeddings": a unit vector or a list of them, "n_prompt_tokens": …}. dimensionality: -1 means all."""
        if not text:
            raise ValueError("text must not be None or empty")
        texts = [text] if isinstance(text, str) else list(text)
        known = prefixes_of(self.engine.header)
        before = _task(prefix, known, self.engine.name)
        pieces = [list(self._pieces(one, before, do_mean, atlas)) for one in texts]
        flat = [piece for of_text in pieces for piece in of_text]
        if cancel_cb and cancel_cb([len(self.engine.tokenize(piece)) + ENDS for piece in flat], self.backend):
            raise CancellationError("operation was canceled")
        made = self.engine.embed(flat)
        vectors = iter(made.vectors)
        whole = [_mean([_cut(next(vectors), dimensionality, known) for _ in of_text]) for of_text in pieces]
        found = whole[0] if isinstance(text, str) else whole
        return {"embeddings": found, "n_prompt_tokens": made.usage.prompt_tokens}

    def _pieces(self, text: str, before: str, do_mean: bool, atlas: bool) -> Iterator[str]:
        """Texts as long as the model takes, each with its prefix; only the first where the rest is to be cut off."""
        if atlas and do_mean and (length := self._length(text)) > ATLAS_TOKENS:
            raise ValueError(f"The text has {length} tokens, and Atlas takes {ATLAS_TOKENS}")
        room = min(self.engine.context, ATLAS_TOKENS) - ENDS - (self._length(before) if before else 0)
        while text:
            size = len(text) if self._length(text) <= room else self._first_that_fits(text, room)
            yield before + text[:size]
            text = text[size:] if do_mean else ""

    def _first_that_fits(self, text: str, room: int) -> int:
        """Characters, up to the end of a word where there is one."""
        low, high = 1, min(len(text), room * 16)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._length(text[:middle]) <= room else (low, middle - 1)
        return text.rfind(" ", 1, low) if " " in text[1:low] else low

    def _length(self, text: str) -> int:
        return len(self.engine.tokenize(text))


def _useful(n_threads: int) -> int:
    return min(max(1, n_threads), os.cpu_count() or 1)


def list_gpus() -> list[str]:
    return list(probe(configured(LoadOptions).openmp).gpus)


def prefixes_of(header: Header) -> Prefixes | None:
    name = f"{header.metadata.get('general.name', '')} {header.source}".lower().replace(" ", "-").replace("_", "-")
    return next((prefixes for part, prefixes in PREFIXES.items() if part in name), None)


def _task(prefix: str | None, known: Prefixes | None, name: str) -> str:
    """What stands before each text. A model that nobody knows gets what the caller says, or nothing."""
    if prefix is None:
        prefix = known.document if known else ""
    elif known and prefix not in (known.document, *known.others):
        raise RuntimeError(f"Failed to generate embeddings: {prefix!r} is not a valid task type for model {name}")
    return f"{prefix}: " if prefix else ""


def _cut(vector: Sequence[float], dimensionality: int, known: Prefixes | None) -> Sequence[float]:
    """A unit vector of the first values, for models made for it: those are centred before, cut or not."""
    size = len(vector) if dimensionality == -1 else dimensionality
    can_cut = known is None or known.cuts
    if size > len(vector) or (size < len(vector) and not can_cut):
        raise RuntimeError(f"Failed to generate embeddings: unsupported dimensionality {dimensionality}")
    middle = sum(vector) / len(vector) if known and known.cuts else 0.0
    return _unit([value - middle for value in vector[:size]])


def _mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    if len(vectors) == 1:
        return list(vectors[0])
    return _unit([sum(values) for values in zip(*vectors, strict=True)])


def _unit(values: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def token_id(logprobs: Sequence[TokenLogprob]) -> int:
    return logprobs[0].id if logprobs else -1


def gpu_layers_of(device: str | None, ngl: int) -> int:
    """Layers for the graphics card, where the caller wants one and there is one."""
    if device in (None, "cpu"):
        return 0
    if not list_gpus():
        warn_once(f"device={device!r}", f"the engine sees no graphics card here, and {cores()} cores compute")
        return 0
    return ngl
