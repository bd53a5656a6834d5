"""How a model's children are loaded: what kind of model it is, its context, and what each child takes in memory.

Everything is decided here from the model's file, the options and the machine; the engine chooses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from filbert.core import machine
from filbert.core.errors import BadInput
from filbert.core.log import log
from filbert.core.machine import Memory
from filbert.engine.load_options import LoadOptions
from filbert.engine.scoring import BRANCHES, N_BATCH, OUTPUT_BYTES
from filbert.engine.worker import Pooling, WorkerPlan
from filbert.models import fit
from filbert.models.adapter import check_adapter
from filbert.models.batch import default_batch
from filbert.models.context_lengths import LEAST_CONTEXT
from filbert.models.gguf import Header, check_split, read_header
from filbert.models.store import StoredModel, find

Kind = Literal["text", "embedding", "rerank"]
Role = Literal["text", "plain", "embedding", "rerank"]
ChildKind = Role | Literal["scorer"]
CHILDREN: dict[ChildKind, str] = {
    "text": "text worker",
    "plain": "text worker without speculation",
    "embedding": "embedding worker",
    "rerank": "rerank worker",
    "scorer": "scorer",
}
MOST_POOLED = 64  # texts at once: the engine aborts on 200
MEMORY_MARGIN = 2 << 30
POOLED_CONTEXT = 2048
SCORING = fit.Demand(
    parallel=BRANCHES + 1,
    batch=N_BATCH,
    logits_bytes=2 * OUTPUT_BYTES,  # what is taken out of a decode, and where the engine computes it
)


def need_kind(name: str, kind: Kind, wanted: Kind) -> None:
    """Raises BadInput when the model of that name is of another kind."""
    if kind != wanted:
        can = {"text": "answers text", "embedding": "makes embeddings", "rerank": "ranks documents"}
        needed = {"text": "a model that answers text", "embedding": "an embedder", "rerank": "a reranker"}
        raise BadInput(
            f"{name} {can[kind]} and cannot do this.",
            do=f"It needs {needed[wanted]}; `filbert show NAME` says what a model is.",
        )


class LoadPlan:
    """context: tokens of a conversation, or of one text where the model makes no text."""

    def __init__(self, stored: StoredModel, options: LoadOptions, memory: Memory | None = None) -> None:
        """memory: what it may take; left out, what the machine has. Raises BadModelFile and BadInput: nothing unchecked
        reaches native code, nothing too big is loaded."""
        self.stored = stored
        self.options = options
        self.headers = _checked(stored)
        self.header = self.headers[0]
        adapters = (*stored.adapters, *(_adapter(text) for text in options.adapters))
        self.adapters = tuple(_checked_adapter(path, self.headers) for path in adapters)
        self.kind = _kind(self.header)
        self.threads = options.threads or machine.cores()
        self._memory = memory or machine.memory()  # before any of it is ours
        self.context = self._context()

    def _context(self) -> int:
        if self.options.context:
            context = min(self.options.context, self.header.context_length or self.options.context)
            fit.check(self.headers, context, self._memory, self._demand)
            return context
        if self.kind != "text":
            return self.pooled_context
        return fit.default_context(self.headers, self._memory, self._demand)

    @property
    def pooled_slots(self) -> int:
        """Texts that are embedded or ranked at once."""
        return min(self.options.parallel, MOST_POOLED)

    @cached_property
    def pooled_context(self) -> int:
        """Tokens of one text at most. It is computed in one go, so a conversation's long context is not for it: beside
        one, a model that writes text takes what fits, for the engine keeps all logits of every token."""
        trained = self.header.context_length or LEAST_CONTEXT
        asked = min(trained, self.options.context or POOLED_CONTEXT)
        if self.kind != "text":
            return asked
        most = min(asked, POOLED_CONTEXT)
        lengths = (most, most // 2, most // 4)
        return next((tokens for tokens in lengths if self._has_room_to_pool(tokens)), lengths[-1])

    def _has_room_to_pool(self, tokens: int) -> bool:
        needed = fit.estimate(self.headers, *self._pooled(tokens)).total + self.takes("text").own
        return needed <= self._memory.available

    @cached_property
    def scored_context(self) -> int:
        """The scorer's cache grows with what is asked, so that a long context costs nothing until it is needed."""
        trained = self.header.context_length
        if self.options.context or not trained:
            return self.context
        return fit.default_context(self.headers, self._memory, SCORING, trained)

    @cached_property
    def prompt_cache_mib(self) -> int:
        if self.options.prompt_cache_mib is not None:
            return self.options.prompt_cache_mib
        return fit.prompt_cache_default(self._memory) >> 20

    def takes(self, child: ChildKind) -> fit.Fit:
        """The memory that a child takes."""
        return fit.estimate(self.headers, *self._load(child))

    def scorer_limit(self) -> int:
        """Bytes that a scorer may allocate besides mapped files."""
        return memory_limit(fit.estimate(self.headers, self.scored_context, SCORING))

    def worker(self, role: Role, apart: bool = False) -> WorkerPlan:
        """apart: it keeps nothing but what is in its slots."""
        context, demand = self._load(role)
        plan = WorkerPlan(
            name=self.stored.name,
            model=str(self.stored.path),
            projector=str(self.stored.projector or ""),
            adapters=self.adapters,
            chat_template=self.options.template or "",
            image_tokens=self.options.image_tokens,
            n_ctx=context,
            n_batch=demand.batch,
            n_parallel=demand.parallel,
            kv=demand.kv,
            threads=self.threads,
            openmp=self.options.openmp,
            device=self.options.device,
            n_gpu_layers=self.options.gpu_layers,
            cache_ram_mib=0 if apart else demand.prompt_cache_bytes >> 20,
            apart=apart,
            speculation=role == "text" and self.options.speculation == "auto",
            pooling=self._pooling(role),
            size_bytes=self.stored.size_bytes,
            stall_s=self.options.stall_s,
            memory_limit=memory_limit(self.takes(role)),
        )
        log.info("%s: %s with %s", self.stored.name, CHILDREN[role], plan)
        return plan

    def _pooling(self, role: Role) -> Pooling:
        if role == "rerank":
            return "rank"
        if role == "embedding":
            return "unspecified" if self.kind == "embedding" else "mean"
        return ""

    @property
    def _demand(self) -> fit.Demand:
        options = self.options
        return fit.Demand(options.kv, options.parallel, self._batch, self.prompt_cache_mib << 20)

    @cached_property
    def _batch(self) -> int:
        from filbert.models.speed import kept_here

        return self.options.batch or default_batch(self.headers, kept_here(self.threads))

    def _load(self, child: ChildKind) -> tuple[int, fit.Demand]:
        """How a child is loaded: its context in tokens, and the rest."""
        if child == "scorer":
            return self.context, SCORING
        if child in ("text", "plain"):
            return self.context, self._demand
        return self._pooled(self.pooled_context)

    def _pooled(self, tokens: int) -> tuple[int, fit.Demand]:
        slots = self.pooled_slots
        return tokens * slots, fit.Demand(self.options.kv, slots, tokens, pools=True)


def scoring_together(plans: Sequence[LoadPlan], context: int, memory: Memory) -> fit.Fit:
    """What a scorer takes that holds all their models. Raises BadInput where that is not free."""
    return fit.check_together([plan.headers for plan in plans], context, memory, SCORING)


def memory_limit(size: fit.Fit) -> int:
    """Generous, for it is there to end what explodes, not to hold an estimate to its word."""
    return 2 * size.total + MEMORY_MARGIN


def _checked(stored: StoredModel) -> tuple[Header, ...]:
    """Headers of all parts and the projector, checked against their files."""
    headers = check_split(stored.parts)
    return (*headers, read_header(stored.projector)) if stored.projector else headers


def _adapter(text: str) -> Path:
    """The file of an adapter's name or path."""
    if found := find(text):
        return found.path
    raise BadInput(f"There is no adapter {text}.", do="Name one that `filbert list` shows, or a path.")


def _checked_adapter(path: Path, model: Sequence[Header]) -> str:
    check_adapter(read_header(path), model)
    return str(path)


def _kind(header: Header) -> Kind:
    if header.kind == "language":
        return "text"
    if header.kind == "embedding":
        return "embedding"
    if header.kind == "reranker":
        return "rerank"
    raise BadInput(
        f"{header.source} is no model by itself ({header.kind}).",
        do="Load the model it belongs to; an adapter is named after it, as in smollm2:135m+my-adapter.",
    )
