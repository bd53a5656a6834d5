"""The model that `filbert.load` gives: the engine's, with sessions and async twins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filbert.chat.session import ChatSession, Overflow
from filbert.chat.tools import Function, tools_of
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine import model as engine
from filbert.engine.generation import AsyncGeneration, Generation
from filbert.engine.load_options import LoadOptions
from filbert.engine.pooled import Embeddings, Ranked
from filbert.engine.sampling import Sampling
from filbert.engine.tools import Tool
from filbert.models import store

if TYPE_CHECKING:
    from filbert.engine.fidelity import Fidelity
    from filbert.engine.score_and_perplexity import Perplexity, Scored
    from filbert.evaluate.bench_result import Bench


class Model(engine.Model):
    """Keyword arguments of `generate` and `chat` are the fields of Sampling: temperature=0, seed=1, …"""

    def generate(
        self, prompt: str, *, tools: Iterable[Tool | Function] = (), tool_choice: str = "auto", **sampling: Any
    ) -> Generation:
        """Answer a prompt: as a user's message where the model has a chat template, else by going on from it. Calls of
        tools are told in `reply.tool_calls`; nothing is called."""
        options = configured(Sampling, sampling)
        described, _ = tools_of(tools)
        if self.chat_template or described:
            return self.respond([Message("user", prompt)], options, described, tool_choice)
        return self.complete(prompt, options)

    def chat(
        self,
        system: str = "",
        *,
        overflow: Overflow = "drop_oldest",
        tools: Iterable[Tool | Function] = (),
        tool_choice: str = "auto",
        **sampling: Any,
    ) -> ChatSession:
        """A conversation that remembers. Functions among the tools are called for the model."""
        return ChatSession(
            self,
            system=system,
            overflow=overflow,
            sampling=configured(Sampling, sampling),
            tools=tools,
            tool_choice=tool_choice,
        )

    def agenerate(self, prompt: str, **sampling: Any) -> AsyncGeneration:
        return AsyncGeneration(lambda: self.generate(prompt, **sampling))

    async def aembed(self, texts: Iterable[str]) -> Embeddings:
        return await asyncio.to_thread(self.embed, texts)

    async def arerank(self, query: str, documents: Iterable[str]) -> list[Ranked]:
        return await asyncio.to_thread(self.rerank, query, documents)

    async def ascore(self, prompt: str, endings: Iterable[str]) -> list[Scored]:
        return await asyncio.to_thread(self.score, prompt, endings)

    async def aperplexity(self, text: str, window: int = 512) -> Perplexity:
        return await asyncio.to_thread(self.perplexity, text, window)

    async def __aenter__(self) -> Model:
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.to_thread(self.close)


def load(name: str | os.PathLike[str], *, shared: bool = True, **options: Any) -> Model:
    """Load a model by name or path; one that is not here yet is pulled first. Keyword arguments are the fields of
    LoadOptions: context=8192, threads=2, … shared: where `filbert serve` runs, use its workers instead of loading the
    model twice. Raises UnknownModel, BadModelFile, OfflineRefused, DownloadFailed."""
    wanted = configured(LoadOptions, options)  # what is wrong here should not cost a download
    stored = store.resolve_or_pull(_named(name), threads=wanted.threads)
    model = Model.shared(stored, wanted) if shared else Model(stored, wanted)
    model.wait_until_loaded()
    return model


async def aload(name: str | os.PathLike[str], **options: Any) -> Model:
    """As `load`, without holding up the event loop."""
    return await asyncio.to_thread(lambda: load(name, **options))


def fidelity(
    compressed: str | os.PathLike[str], base: str | os.PathLike[str], text: str, window: int = 512, **options: Any
) -> Fidelity:
    """What compression cost: how far a model's predictions are from those of the model it was made from, on a text.
    Both are loaded for it, in a process of its own. Keyword arguments as of `load`. Raises BadInput for models of
    different vocabularies."""
    from filbert.core.jobs import finish
    from filbert.engine.fidelity import again, fidelity_job

    wanted = configured(LoadOptions, options)
    one, other = (store.resolve_or_pull(_named(name), threads=wanted.threads) for name in (compressed, base))
    with Model(one, wanted) as model, Model(other, wanted) as full:
        return finish(fidelity_job(model, full, text, window, again(model.name, full.name, window, "FILE")))


async def afidelity(
    compressed: str | os.PathLike[str], base: str | os.PathLike[str], text: str, window: int = 512, **options: Any
) -> Fidelity:
    """As `fidelity`, without holding up the event loop."""
    return await asyncio.to_thread(lambda: fidelity(compressed, base, text, window, **options))


def bench(
    name: str | os.PathLike[str],
    *,
    prompt: Sequence[int] = (512,),
    generate: Sequence[int] = (128,),
    depth: Sequence[int] | None = None,
    rounds: int = 5,
    busy: int = 0,
    **options: Any,
) -> Bench:
    """How fast a model reads prompts of so many tokens and writes so many, after as many others as `depth` says (left
    out: none, and 2048). busy: as many processes that keep cores busy, beside a second measurement. Keyword arguments
    as of `load`. Raises ContextOverflow for what the context does not hold."""
    from filbert.core.jobs import finish
    from filbert.evaluate.bench import Plan, bench_job

    plan, wanted = Plan(prompt, generate, depth, rounds, busy), configured(LoadOptions, options)
    return finish(bench_job(store.resolve_or_pull(_named(name), threads=wanted.threads), wanted, plan))


async def abench(name: str | os.PathLike[str], **options: Any) -> Bench:
    """As `bench`, without holding up the event loop."""
    return await asyncio.to_thread(lambda: bench(name, **options))


def _named(name: str | os.PathLike[str]) -> str:
    return str(Path(name).absolute()) if isinstance(name, os.PathLike) else name
