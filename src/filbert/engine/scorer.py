"""A scorer seen from the caller: a child that holds the engine's C interface and measures with it.

What breaks an exchange off (a crash, a stall, a cancel, Ctrl-C, a generator left early) ends the child, since one that
is in the middle of a decode hears nothing; the next call starts a fresh one.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from filbert.core.errors import (
    BadInput,
    BadModelFile,
    Cancelled,
    EngineCrashed,
    EngineMissing,
    EngineStalled,
    FilbertError,
)
from filbert.core.jobs import Job, Progress
from filbert.core.machine import cores, unsupported_by_engine
from filbert.engine import capi_layout
from filbert.engine.child import SLOWEST_TOKENIZER, Child, answer, load_wait_s
from filbert.engine.forest import Item, followed
from filbert.engine.threads import Runtime
from filbert.models.store import StoredModel
from filbert.report.measurement import Provenance

FRESH = "The next call starts a fresh one."
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Base:
    """A model to compare with. adapters: checked files."""

    stored: StoredModel
    adapters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """An ending. loglikelihood: nats, None where the engine gave no number. greedy: each token was the likeliest."""

    loglikelihood: float | None
    greedy: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted of a place in a sequence. loglikelihood: of the token that stands there, nats, None where the
    engine gave no number; likeliest: tokens with theirs, the likeliest first."""

    loglikelihood: float | None
    likeliest: tuple[tuple[int, float | None], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Sums over the scored tokens of one window of a text: of nats, and of their squares."""

    nll: float
    nll2: float
    n: int
    n_invalid: int


@dataclass(frozen=True, slots=True)
class ComparedWindow:
    """Two models on the scored tokens of one window, a number a token, None where the engine gave none. kl: nats;
    nll, base_nll: nats of the token that comes; same: whether both hold the same token the likeliest."""

    kl: list[float | None]
    nll: list[float | None]
    base_nll: list[float | None]
    same: list[bool]


class Scorer:
    """Starts when it is first asked. One question at a time; callers in other threads wait their turn."""

    def __init__(
        self,
        stored: StoredModel,
        *,
        threads: int | None = None,
        context: int | None = None,
        openmp: Runtime = "bundled",
        adapters: Sequence[str] = (),
        stall_s: float = 120,
        memory_limit: int = sys.maxsize,
        base: Base | None = None,
    ) -> None:
        """`context`: tokens a prompt and an ending may have; as many as the model was trained with when left out. The
        cache grows with what is asked, so a large one costs nothing until it is needed. `stall_s`: seconds without a
        sign of life after which a question ends; `memory_limit`: bytes it may allocate besides mapped files; `base`:
        another model, loaded beside it, to compare it with."""
        self.stored = stored
        self.base = base
        self.threads = threads or cores()
        self.n_decoded = 0  # tokens, over the life of this object
        self.adapters = tuple(adapters)  # checked files
        self._limit, self._openmp = context, openmp
        self._stall_s, self._memory_limit = stall_s, memory_limit
        self._child: Child | None = None
        self._about: dict[str, Any] = {}
        self._asking = threading.Lock()
        self._cancelled = self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, for good: who asks now, or waits for an answer, gets BadInput."""
        self._closed = True
        child, self._child = self._child, None
        if child and self._asking.locked():
            child.kill()
        elif child:
            child.stop()

    def cancel(self) -> None:
        """End what another thread is asking; it gets Cancelled. Does nothing when nobody asks."""
        if self._asking.locked():
            self._cancelled = True
            if child := self._child:
                child.kill()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.running else None

    @property
    def context(self) -> int:
        """Tokens a prompt and an ending may have together."""
        return int(self.about["context"])

    @property
    def name(self) -> str:
        return self.stored.name

    @property
    def sha256(self) -> str:
        return self.stored.sha256

    @property
    def version(self) -> str:
        """What else decides about its numbers."""
        return f"{capi_layout.VERSION} {self.adapters}"

    @property
    def start(self) -> Sequence[int]:
        """The tokens that every text begins with, none or BOS."""
        return list(self.about["start"])

    @property
    def first(self) -> int:
        """The token that stands for an empty text."""
        return int(self.about["first"])

    @property
    def about(self) -> Mapping[str, Any]:
        """What the child said of the model."""
        if not self._about:
            with self._exchange():
                pass
        return self._about

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, special tokens read as such, none added."""
        return list(self._ask({"do": "tokenize", "texts": list(texts)}))

    def as_windows(self, texts: Sequence[tuple[str, bool]], window: int) -> list[list[list[int]]]:
        """Of each text its windows of so many tokens, each begun as every text begins; the rest is left out. A text
        comes with whether its special tokens are read as such."""
        return list(self._ask({"do": "as_windows", "texts": list(texts), "window": window}))

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """What each token stands for, which may be a part of a character."""
        return [piece.encode("latin-1") for piece in self._ask({"do": "pieces", "tokens": self._checked(tokens)})]

    def score(self, prefix: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Scored]:
        """As `score_items`, of one item."""
        return self.score_items([Item(prefix, endings)])[0] if endings else []

    def provenance(self, command: str) -> Provenance:
        """Of a number that it gave."""
        from filbert.engine.score_and_perplexity import provenance

        return provenance(self, command)

    def score_items(self, items: Sequence[Item]) -> list[list[Scored]]:
        """Log-likelihood of each ending of each item, decoded together: what they have in common once, and as fast as
        it gets where `packed` chose them. Raises BadInput where a prefix or an ending is empty, ContextOverflow where
        the two are longer than the context."""
        if not all(item.prefix and item.endings and all(item.endings) for item in items):
            raise BadInput(
                "There is nothing to score.", why="The prompt or an ending has no tokens.", do="Pass some text."
            )
        if not items:
            return []
        asked = [[self._checked(item.prefix), [self._checked(ending) for ending in item.endings]] for item in items]
        told = self._ask({"do": "score", "items": asked})
        self.n_decoded += told["decoded"]
        found = zip(told["loglikelihoods"], told["greedy"], strict=True)
        return [[Scored(*next(found), len(ending)) for ending in item.endings] for item in items]

    def predict(self, sequences: Sequence[Sequence[int]], n: int) -> list[list[Prediction]]:
        """For each sequence one prediction a token after the first, with the n likeliest there; and one of what comes
        after the last, where nothing stands: its loglikelihood means nothing. Decoded as `score_items` does, and raises
        the same."""
        if not all(sequences):
            raise BadInput("There is nothing to predict from.", why="A text has no tokens.", do="Pass some text.")
        items = [followed(self._checked(tokens)) for tokens in sequences]
        if not items:
            return []
        told = self._ask({"do": "predict", "items": [[item.prefix, item.endings] for item in items], "n": n})
        self.n_decoded += told["decoded"]
        found = (Prediction(value, tuple(map(tuple, likeliest))) for value, likeliest in told["predictions"])
        return [list(islice(found, len(tokens))) for tokens in sequences]

    def perplexity(self, text: str, window: int) -> Job[list[Window]]:
        """What each window of the text costs. Raises BadInput for a text of less than two windows."""
        return (yield from self._windows("perplexity", text, window, Window))

    def fidelity(
        self, text: str, window: int, *, every_token: bool = False, special: bool = False, most: int | None = None
    ) -> Job[list[ComparedWindow]]:
        """How far the model is from its base on the second half of each window of the text, or on all of it. special:
        whether special tokens are read as such; most: windows. Raises as `perplexity`."""
        more = {"every_token": every_token, "special": special, "most": most}
        return (yield from self._windows("fidelity", text, window, ComparedWindow, more))

    def compare(self, sequences: Sequence[Sequence[int]], logits: Path, width: int) -> Job[list[ComparedWindow]]:
        """How far the model is on each sequence from logits that another program made: a file of float32, `width` a
        token, one sequence after the other. Raises ContextOverflow."""
        asked = {"sequences": list(map(self._checked, sequences)), "logits": str(logits), "width": width}
        return (yield from self._each_window("compare", asked, ComparedWindow))

    def _windows(
        self, do: str, text: str, window: int, kind: type[W], more: Mapping[str, Any] = MappingProxyType({})
    ) -> Job[list[W]]:
        return (yield from self._each_window(do, {"text": text, "window": window, **more}, kind, len(text)))

    def _each_window(self, do: str, asked: Mapping[str, Any], kind: type[W], n_characters: int = 0) -> Job[list[W]]:
        windows: list[W] = []
        with self._exchange() as child:
            child.tell({"do": do, **asked}, self._stall_s)
            while "window" in (said := self._hear(child, n_characters / SLOWEST_TOKENIZER)):
                windows.append(kind(**said["window"]))
                yield Progress(do, len(windows), said["of"], "windows")
        answer(said)
        return windows

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        n_vocab = self.about["n_vocab"]
        wrong = next((token for token in tokens if not 0 <= token < n_vocab), None)
        if wrong is not None:
            raise BadInput(
                f"{wrong} is no token of this model.",
                why=f"Its vocabulary has {n_vocab}.",
                do="Take tokens that `tokenize` gives.",
            )
        return list(tokens)

    def _ask(self, question: Mapping[str, Any]) -> Any:
        with self._exchange() as child:
            child.tell(question, self._stall_s)
            said = self._hear(child)
        return answer(said)

    def _hear(self, child: Child, more_s: float = 0) -> dict[str, Any]:
        """What the child says but that it lives; `more_s`: how much longer it may be silent than others."""
        while "decoded" in (said := child.hear(self._stall_s + more_s)):
            pass
        return said

    @contextmanager
    def _exchange(self) -> Iterator[Child]:
        """A child that is ready, for one question."""
        with self._asking:
            try:
                yield self._ready()
            except EngineCrashed as exc:
                self._drop()
                raise (self._ended() or EngineCrashed(exc.what, why=exc.why, do=FRESH)) from exc
            except EngineStalled as exc:
                self._drop()
                raise EngineStalled(exc.what, do=f"{FRESH} Raise FILBERT_LOAD_STALL_S if the machine is slow.") from exc
            except BaseException:
                self._drop()
                raise
            finally:
                self._cancelled = False

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child:
            child.kill()

    def _ready(self) -> Child:
        child = self._child
        if child is None or not child.running:
            self._need_wanted()
            self._child = child = self._start()
            self._need_wanted()  # another thread that closed meanwhile saw no child
            self._about = self._loaded(child)
        self._need_wanted()
        return child

    def _need_wanted(self) -> None:
        if ended := self._ended():
            raise ended

    def _ended(self) -> FilbertError | None:
        """What another thread did to this one's question."""
        if self._closed:
            return BadInput(f"{self.stored.name} is closed.", do="Load it again.")
        return Cancelled("Scoring was cancelled.") if self._cancelled else None

    def _start(self) -> Child:
        if reason := unsupported_by_engine():
            raise EngineMissing(reason, do="Score on another machine.")
        config = {
            "path": str(self.stored.path),
            "threads": self.threads,
            "openmp": self._openmp,
            "context": self._limit,
            "adapters": self.adapters,
            "memory_limit": self._memory_limit,
        }
        if self.base:
            config["base"] = {"path": str(self.base.stored.path), "adapters": self.base.adapters}
        child = Child("scorer_main.py", config)
        weakref.finalize(self, child.stop)  # also when this object is forgotten unclosed
        return child

    def _loaded(self, child: Child) -> dict[str, Any]:
        try:
            size_bytes = self.stored.size_bytes + (self.base.stored.size_bytes if self.base else 0)
            return dict(answer(child.hear(load_wait_s(size_bytes, self._stall_s))))
        except (EngineCrashed, BadModelFile) as exc:
            if self._cancelled or self._closed:
                raise
            names = " or ".join(each.stored.path.name for each in (self, self.base) if each)
            raise BadModelFile(
                f"The engine could not load {names}.",
                why=child.complaint or exc.why,
                do="Pull it again, or try another file.",
            ) from exc
