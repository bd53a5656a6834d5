"""The children of one model: a worker for text, one for vectors, a scorer. Each is started when it is asked for, and a
new one when it died or hung."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from filbert.core.errors import BadInput, EngineCrashed, EngineStalled
from filbert.engine.admission import Admission, Place
from filbert.engine.budget import OF_THIS_PROCESS, Budget, Held
from filbert.engine.load_plan import CHILDREN, ChildKind, LoadPlan, Role
from filbert.engine.slots import Apart, Marks
from filbert.engine.transport import Event, Exchange, WorkerSocket
from filbert.engine.waiting import need_time
from filbert.engine.worker import Worker

if TYPE_CHECKING:
    from filbert.engine.scorer import Scorer


class Children:
    """They end with their caller, however it dies."""

    def __init__(self, plan: LoadPlan, budget: Budget = OF_THIS_PROCESS, apart: Apart = "never") -> None:
        """apart: whether what one owner's requests leave in the workers is kept from the others."""
        self.name = plan.stored.name
        self.plan = plan
        self._budget = budget
        self.workers: dict[Role, Worker] = {}
        self._scorer: Scorer | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._promised: list[Held] = []
        self._admission = Admission(plan.context, plan.options.parallel, apart)
        self._pooling_admission = Admission(plan.pooled_slots, plan.pooled_slots)  # counts texts
        self._scoring_admission = Admission(1, 1)  # counts questions
        budget.join(self)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            workers, self.workers = list(self.workers.values()), {}
            scorer, self._scorer = self._scorer, None
        for worker in workers:
            worker.stop()
        if scorer:
            scorer.close()

    def ask(
        self, tokens: int, owner: str = "", most_waiting: int | None = None, worker: str = "", marks: Marks = ()
    ) -> Place:
        """A place for an answer whose prompt and new tokens are so many. Raises Busy where so many wait already."""
        return self._admission.ask(tokens, owner, most_waiting, worker, marks)

    def ask_pooled(self, texts: int, owner: str = "", most_waiting: int | None = None) -> Place:
        """A place for texts that are embedded or ranked at once. Raises Busy where so many wait already."""
        return self._pooling_admission.ask(texts, owner, most_waiting)

    def ask_scorer(self, owner: str = "", most_waiting: int | None = None) -> Place:
        """A place for one question to the scorer. Raises Busy where so many wait already."""
        return self._scoring_admission.ask(1, owner, most_waiting)

    @property
    def counts(self) -> tuple[int, int]:
        """How many answers are under way, and how many wait."""
        answers, scores = self._admission.counts, self._scoring_admission.counts
        return answers[0] + scores[0], answers[1] + scores[1]

    def socket(self, role: Role) -> WorkerSocket:
        """The way to a worker, started and loaded if need be."""
        return self.worker(role).transport()

    def socket_at_once(self, role: Role) -> WorkerSocket | None:
        """The same without any waiting; None where a worker has to be started or loaded first."""
        worker = self.workers.get(role)
        return worker.loaded if worker and self._is_fit(worker, role) else None

    def send(self, role: Role, route: str, body: Mapping[str, Any], more_s: float = 0) -> Exchange:
        need_time()
        worker = self.worker(role)
        socket = worker.transport()
        try:
            return _Watched(socket.send(route, body, more_s), worker)
        except EngineCrashed:  # it runs and cannot be reached
            worker.kill()
            raise

    def end(self, role: Role, socket: WorkerSocket) -> None:
        """Kill the worker behind a socket that hangs; the next request starts another."""
        with self._lock:
            worker = self.workers.get(role)
        if worker and worker.serves(socket):  # a neighbour may have replaced it by now
            worker.kill()

    def worker(self, role: Role) -> Worker:
        return self._budget.when_there_is_room(lambda: self._worker(role))

    def _worker(self, role: Role) -> Worker:
        with self._lock:
            worker = self.workers.get(role)
            if worker and not worker.is_ours:
                raise BadInput(
                    f"{self.name} was loaded in the process this one was forked from.",
                    do="Load it here, or start processes by spawn.",
                )
            if worker is None or not self._is_fit(worker, role):
                self._need_open()
                if worker:
                    worker.stop()
                with self._budget.room(self, CHILDREN[role], self.plan.takes(role)):
                    worker = self.workers[role] = Worker(self.plan.worker(role, self._is_apart(role)))
            return worker

    def _is_apart(self, role: Role) -> bool:
        return self._admission.apart and role in ("text", "plain")

    def _is_fit(self, worker: Worker, role: Role) -> bool:
        return worker.running and (worker.plan.apart or not self._is_apart(role))

    @property
    def scorer(self) -> Scorer:
        return self._budget.when_there_is_room(self._started_scorer)

    def _started_scorer(self) -> Scorer:
        from filbert.engine.scorer import Scorer

        with self._lock:
            if self._scorer is None:
                self._need_open()
                with self._budget.room(self, CHILDREN["scorer"], self.plan.takes("scorer")):
                    self._scorer = Scorer(
                        self.plan.stored,
                        threads=self.plan.threads,
                        context=self.plan.scored_context,
                        openmp=self.plan.options.openmp,
                        adapters=self.plan.adapters,
                        stall_s=self.plan.options.stall_s,
                        memory_limit=self.plan.scorer_limit(),
                    )
            return self._scorer

    def promise_scorer(self) -> Held:
        """Memory for a scorer that a client of ours runs. Raises NoRoom."""
        coming = Held(CHILDREN["scorer"], self.plan.takes("scorer"), None)

        def promise() -> Held:
            with self._budget.room(self, coming.part, coming.size):
                self._promised.append(coming)
            return coming

        return self._budget.when_there_is_room(promise)

    def forget(self, promised: Held) -> None:
        self._promised.remove(promised)

    def held(self) -> Sequence[Held]:
        found: dict[ChildKind, int | None] = {
            role: worker.pid for role, worker in list(self.workers.items()) if worker.running
        }
        if scorer := self._scorer:
            found["scorer"] = scorer.pid
        own = [Held(CHILDREN[kind], self.plan.takes(kind), pid) for kind, pid in found.items()]
        return [*own, *self._promised]

    def _need_open(self) -> None:
        if self._closed:
            raise BadInput(f"{self.name} is closed.", do="Load it again.")


class _Watched:
    """An exchange whose worker is ended when it hangs, so that the next request gets a fresh one."""

    def __init__(self, exchange: Exchange, worker: Worker) -> None:
        self._exchange, self._worker = exchange, worker

    def cancel(self) -> None:
        self._exchange.cancel()

    def __iter__(self) -> Iterator[Event]:
        try:
            yield from self._exchange
        except EngineStalled:
            self._worker.kill()
            raise
        except EngineCrashed as exc:
            self._worker.stop()
            raise self._worker.crashed() from exc
