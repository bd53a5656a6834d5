"""A scorer that holds two models, one beside the other, and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from filbert.engine.budget import OF_THIS_PROCESS, Budget, Held
from filbert.engine.load_plan import LoadPlan, memory_limit, scoring_together
from filbert.engine.scorer import Base, Scorer

PART = "scorer of two models"


class SideBySide:
    """Use it in a `with`; the scorer starts when it is first asked."""

    def __init__(self, plan: LoadPlan, base: LoadPlan, window: int, budget: Budget = OF_THIS_PROCESS) -> None:
        """window: tokens that both contexts hold; the scorer refuses more than both were trained with. Raises BadInput
        where there is no memory for both, NoRoom beside what is loaded."""
        trained = [each.header.context_length or window for each in (plan, base)]
        self.name = f"{plan.stored.name} beside {base.stored.name}"
        self._size = scoring_together([plan, base], window, budget.memory())
        self._scorer: Scorer | None = None
        budget.join(self)
        with budget.room(self, PART, self._size):
            self._scorer = Scorer(
                plan.stored,
                threads=plan.threads,
                context=min(window, *trained),
                openmp=plan.options.openmp,
                adapters=plan.adapters,
                stall_s=plan.options.stall_s,
                memory_limit=memory_limit(self._size),
                base=Base(base.stored, base.adapters),
            )

    @property
    def scorer(self) -> Scorer:
        assert self._scorer
        return self._scorer

    def held(self) -> Sequence[Held]:
        return [Held(PART, self._size, self._scorer.pid)] if self._scorer else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.scorer.close()
        self._scorer = None
