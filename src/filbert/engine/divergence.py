"""How far models are from a full one, measured in children: what it says is kept once, and compared with often.

A swap rounds some tensors of the full model in its memory, so that no file is written and nothing else is measured than
that rounding; a file is measured as it would run, with its own kernels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from filbert.core import machine
from filbert.core.errors import BadInput, EngineError, EngineMissing
from filbert.core.files import make_folder
from filbert.core.jobs import Job, Progress
from filbert.engine import capi_layout
from filbert.engine.child import SLOWEST_TOKENIZER, Child, answer, load_wait_s
from filbert.engine.likelihood import Numbers
from filbert.engine.load_plan import LoadPlan, memory_limit, scoring_together
from filbert.engine.quantiser import Rounding
from filbert.engine.scorer import ComparedWindow

KEEP, SWAP, COMPARE = "full model", "swap", "compare"
WINDOWS = "windows.json"


class Divergence:
    """Use it in a `with`; its child, which starts when it is first needed, ends with it. What breaks a question off
    ends the child too, and the next one starts a fresh one."""

    def __init__(
        self, full: LoadPlan, texts: Sequence[tuple[str, bool]], window: int, windows_per_text: int, kept: Path
    ) -> None:
        """texts: each with whether its special tokens are read as such, and of each the first windows of so many tokens
        count. kept: a folder in which what the full model says stays: 4 bytes for each token of its vocabulary, a token
        of the windows. Raises BadInput for windows longer than the model was trained with."""
        if window > (full.header.context_length or window):
            raise BadInput(
                f"A window of {window} tokens is longer than {full.stored.name} was trained with.",
                do=f"Take {full.header.context_length} or less.",
            )
        self.full, self.window = full, window
        self._texts, self._most = list(texts), windows_per_text
        asked = [full.stored.sha256, full.adapters, self._texts, window, windows_per_text, capi_layout.VERSION]
        self.identity = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        self._folder = kept / self.identity[:16]
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def swapped(self, tensors: Sequence[Rounding]) -> Job[Numbers]:
        """KL divergence of each window when these tensors are rounded, and no others: nats a token, the mean over all
        tokens that predict another one of the window. Raises BadInput where there is no memory for the full model, or
        for weights that are no numbers; EngineError where the rounded model gives none; DiskFull."""
        with self._unbroken():
            yield from self._kept()
            asked = {"folder": str(self._folder), "swap": [tensor.to_json() for tensor in tensors]}
            means = yield from self._asked(self._ready(), asked, SWAP)
        if None in means:
            names = ", ".join(f"{tensor.tensor.name} as {tensor.to}" for tensor in tensors[:3])
            raise EngineError("A rounded model gives no numbers.", why=f"It has {names}.", do="Choose other types.")
        return np.array(means)

    def of(self, plan: LoadPlan) -> Job[list[list[ComparedWindow]]]:
        """How far another model is on the windows of each text, in the order of the texts. Raises as `swapped`, and
        BadInput for a model of another vocabulary."""
        with self._unbroken():
            yield from self._kept()
        child = self._started(plan, full=False)
        try:
            found = yield from self._asked(child, {"folder": str(self._folder)}, COMPARE)
        finally:
            child.kill()
        windows = iter(found)
        return [[ComparedWindow(**next(windows)) for _ in text] for text in self._windows()]

    def means_of(self, plan: LoadPlan) -> Job[Numbers]:
        """The same as one number a window, as `swapped` has it."""
        texts = yield from self.of(plan)
        return np.array([np.mean(np.array(window.kl, np.float64)) for text in texts for window in text])

    def forget(self) -> None:
        """Remove what the full model said."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kept(self) -> Job[None]:
        """See to it that what the full model says is on disk."""
        if not (self._folder / WINDOWS).exists():
            make_folder(self._folder)
            asked = {"folder": str(self._folder), "texts": self._texts, "most": self._most}
            yield from self._asked(self._ready(), asked, KEEP)

    def _windows(self) -> list[list[list[int]]]:
        """Tokens, a window, of each text."""
        return list(json.loads((self._folder / WINDOWS).read_text("utf-8")))

    def _asked(self, child: Child, question: Mapping[str, Any], step: str) -> Job[Any]:
        stall_s = self.full.options.stall_s
        child.tell(question, stall_s)
        wait_s = stall_s + sum(len(text) for text, _ in self._texts) / SLOWEST_TOKENIZER
        while not (said := child.hear(wait_s)).keys() & {"answer", "error"}:
            if "window" in said:
                yield Progress(step, said["window"], said["of"], "windows")
        return answer(said)

    def _ready(self) -> Child:
        if not self._child or not self._child.running:
            self._child = self._started(self.full, full=True)
        return self._child

    def _started(self, plan: LoadPlan, *, full: bool) -> Child:
        if reason := machine.unsupported_by_engine():
            raise EngineMissing(reason, do="Compress on another machine.")
        config = {
            "path": str(plan.stored.path),
            "adapters": plan.adapters,
            "full": full,
            "window": self.window,
            "threads": self.full.threads,
            "openmp": self.full.options.openmp,
            "memory_limit": memory_limit(scoring_together([plan], self.window, machine.memory())),
        }
        child = Child("divergence_main.py", config)
        try:
            answer(child.hear(load_wait_s(plan.stored.size_bytes, plan.options.stall_s)))
        except BaseException:
            child.kill()
            raise
        return child

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._child:
            self._child.kill()
            self._child = None
