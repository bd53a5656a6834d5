"""How fast a model answers here: prompts read and tokens written a second, the wait for the first token, memory.

Taken of the worker that chats use, on random tokens as `llama-bench` does (llama.cpp, tools/llama-bench), whose names
tests have: pp512 reads 512 tokens, tg128 writes 128, `@ d2048` after 2048 others that the worker holds already.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from filbert.core import machine
from filbert.core.errors import BadInput, ContextOverflow, EngineError
from filbert.core.jobs import Job, Progress
from filbert.engine.bounds import more_room
from filbert.engine.budget import Held
from filbert.engine.generation import Generation, Reply
from filbert.engine.load_options import OF_WHAT_IS_SAID, LoadOptions
from filbert.engine.model import STREAMED, Model, Prepared
from filbert.engine.score_and_perplexity import provenance
from filbert.evaluate.bench_result import Bench, Kind, Row, Sampled, SpeedTest
from filbert.evaluate.spinning import spinning
from filbert.models.store import StoredModel
from filbert.report.measurement import Provenance

DEPTHS = (0, 2048)
LOAD_OVER_S = 0.5
MEASURED = frozenset(LoadOptions.model_fields) - OF_WHAT_IS_SAID


@dataclass(frozen=True, slots=True)
class Plan:
    """prompt, generate: tokens a test, () or 0 for no such test; depth: tokens before them, None for 0 and, where the
    context holds it, 2048; rounds: how often each is measured; busy: other processes beside a second measurement, 0 for
    none. Raises BadInput for what cannot be measured."""

    prompt: Sequence[int] = (512,)
    generate: Sequence[int] = (128,)
    depth: Sequence[int] | None = None
    rounds: int = 5
    busy: int = 0

    def __post_init__(self) -> None:
        if (least := min((*self.prompt, *self.generate, *(self.depth or ())), default=0)) < 0:
            raise BadInput(f"Tokens cannot be {least}.", do="Ask for 0 or more.")
        if self.rounds < 1 or self.busy < 0:
            raise BadInput(f"{self.rounds} rounds beside {self.busy} processes cannot be.", do="Take 1 round or more.")
        if not any((*self.prompt, *self.generate)) or self.depth == ():
            raise BadInput("There is nothing to measure.", do="Ask for tokens to read or to write, at some depth.")

    def tests(self, context: int) -> list[SpeedTest]:
        """By their depth. Those at a depth that nobody asked for are left out where they do not fit."""
        kinds: Sequence[tuple[Kind, Sequence[int]]] = (("pp", self.prompt), ("tg", self.generate))
        asked = [
            SpeedTest(kind, tokens, depth)
            for depth in dict.fromkeys(DEPTHS if self.depth is None else self.depth)
            for kind, counts in kinds
            for tokens in dict.fromkeys(counts)
            if tokens
        ]
        return [test for test in asked if test.needs <= context or not (self.depth is None and test.depth)]

    @property
    def loads(self) -> Sequence[int]:
        """The other processes beside each measurement of a round."""
        return (0, self.busy) if self.busy else (0,)

    def flags(self, options: LoadOptions) -> Iterator[str]:
        """Those of `filbert bench` that ask the same, on a machine like this one."""
        counts = {"prompt": self.prompt or (0,), "generate": self.generate or (0,), "depth": self.depth or ()}
        for name, each in counts.items():
            if each:
                yield from (f"--{name}", ",".join(map(str, each)))
        yield from ("--rounds", str(self.rounds))
        if self.busy:
            yield from ("--busy", str(self.busy))
        yield from options.flags(MEASURED)


def bench_job(stored: StoredModel, options: LoadOptions, plan: Plan) -> Job[Bench]:
    """The model is loaded for it, in a worker of its own that remembers no prompts. Raises BadInput, ContextOverflow
    for what the context does not hold, and whatever a load raises."""
    busy_cores = machine.busy_cores(LOAD_OVER_S)
    with Model(stored, options.choosing(speculation="off", prompt_cache_mib=0)) as model:
        model.need("text")
        tests = plan.tests(model.context)
        for test in tests:
            _need_room(test, model)
        measured = _Measured(model)
        found = yield from _rounds(measured, plan, tests)
        made_by = provenance(model.children.plan, shlex.join(["filbert", "bench", model.name, *plan.flags(options)]))
        return Bench(
            size_bytes=stored.size_bytes,
            parameters=sum(header.parameters for header in model.children.plan.headers),
            context=model.context,
            settings=" ".join(options.flags(MEASURED - {"context", "threads"})),
            planned=measured.worker.size,
            memory=Sampled.of(
                [each.memory for samples in found.values() for each in samples], "its worker, after an answer", made_by
            ),
            busy_cores=busy_cores,
            rows=[_row(test, busy, samples, made_by) for (test, busy), samples in found.items()],
            made_by=made_by,
        )


def _need_room(test: SpeedTest, model: Model) -> None:
    if test.needs > model.context:
        raise ContextOverflow(
            f"{test} needs {test.needs} tokens of context, and {model.name} has {model.context}.",
            do=more_room(model.context, model.header.context_length),
        )


@dataclass(frozen=True, slots=True)
class _Sample:
    """tokens: that were read or written in those seconds; memory: bytes of the worker after them."""

    tokens: int
    seconds: float
    first_token_s: float
    memory: int


def _row(test: SpeedTest, busy: int, samples: Sequence[_Sample], made_by: Provenance) -> Row:
    against = f"random tokens, {test}, " + (f"beside {busy} busy processes" if busy else "beside nothing of ours")
    waits = [each.first_token_s for each in samples]
    return Row(
        test,
        busy,
        speed=Sampled.of([each.tokens / each.seconds for each in samples], against, made_by),
        seconds=[each.seconds for each in samples],
        first_token_s=Sampled.of(waits, against, made_by) if test.kind == "pp" else None,
    )


def _rounds(
    measured: _Measured, plan: Plan, tests: Sequence[SpeedTest]
) -> Job[Mapping[tuple[SpeedTest, int], Sequence[_Sample]]]:
    """In each round every test, beside nothing and then beside other work, so that whatever else the machine does
    meanwhile meets all alike."""
    found: dict[tuple[SpeedTest, int], list[_Sample]] = {(test, busy): [] for test in tests for busy in plan.loads}
    done, total = 0, plan.rounds * len(found)
    yield Progress("bench", done, total, "answers")
    measured.warm_up(max(plan.prompt, default=1))
    for _ in range(plan.rounds):
        for depth, busy in product(dict.fromkeys(test.depth for test in tests), plan.loads):
            with spinning(busy):
                for test in (test for test in tests if test.depth == depth):
                    found[test, busy].append(measured.sample(test))
                    done += 1
                    yield Progress("bench", done, total, "answers")
    return found


class _Measured:
    """A model that reads random tokens. Each is new to it, but those at the depth of a test: they stay in the worker
    from one test to the next, and are read before the clock starts where they do not."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._random = Random(0)
        self._before: dict[int, list[int]] = {}

    @property
    def worker(self) -> Held:
        (held,) = self._model.children.held()
        return held

    def warm_up(self, tokens: int) -> None:
        self._ask(self._tokens(max(1, tokens)), 2)

    def sample(self, test: SpeedTest) -> _Sample:
        return self._read(test) if test.kind == "pp" else self._written(test)

    def _read(self, test: SpeedTest) -> _Sample:
        before = self._at(test.depth)
        if before:
            self._ask(before, 1, len(before))
        prompt = [*before, *self._tokens(test.tokens)]
        began = time.perf_counter()
        reply = self._ask(prompt, 1, len(before))
        waited = time.perf_counter() - began
        read = reply.usage.prompt_tokens - reply.usage.cached_tokens
        return self._checked(test, _Sample(read, reply.timings.prompt_s, waited, self._memory()))

    def _written(self, test: SpeedTest) -> _Sample:
        """The engine's clock begins with the first token, which is one of reading: one more is asked for."""
        before = self._at(test.depth)
        reply = self._ask(before or self._tokens(1), test.tokens + 1, len(before))
        written = reply.usage.completion_tokens - 1
        return self._checked(test, _Sample(written, reply.timings.generation_s, 0, self._memory()))

    def _checked(self, test: SpeedTest, sample: _Sample) -> _Sample:
        if sample.tokens != test.tokens:
            raise EngineError(
                f"{test} cannot be measured with {self._model.name}.",
                why=f"The engine computed {sample.tokens} tokens of {test.tokens}.",
                do="Leave --depth out, for some kinds of models read a prompt anew.",
            )
        return sample

    def _at(self, depth: int) -> Sequence[int]:
        if depth not in self._before:
            self._before[depth] = self._tokens(depth)
        return self._before[depth]

    def _tokens(self, count: int) -> list[int]:
        return self._random.choices(range(self._model.header.vocab_size or 1), k=count)

    def _memory(self) -> int:
        return machine.resident_bytes(self.worker.pid)

    def _ask(self, prompt: Sequence[int], tokens: int, held: int = 0) -> Reply:
        """An answer of so many tokens, whatever the model would like. held: how much of the prompt the worker may have
        read before; it is always the same slot that reads."""
        body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "id_slot": 0, "cache_prompt": held > 0}
        asked = Prepared("text", "/v1/completions", body | STREAMED, len(prompt) + tokens)
        children = self._model.children
        return Generation(
            lambda: self._model.admit(asked), lambda place: children.send(asked.role, asked.route, asked.body)
        ).reply()
