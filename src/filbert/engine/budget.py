"""The memory that the children of all models may take together.

What is free is asked of the machine whenever a child is to start. Of it goes what running children were promised and
have not taken yet (a prompt cache fills as it is used), and their weights, which the machine counts as free, for they
are mapped.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from filbert.core import machine
from filbert.core.errors import NoRoom
from filbert.core.machine import Memory
from filbert.models.fit import Fit

Started = TypeVar("Started")


@dataclass(frozen=True, slots=True)
class Held:
    """A child. part: what it is called; size: what it may take; pid: None of one that starts when it is needed."""

    part: str
    size: Fit
    pid: int | None

    @property
    def untaken(self) -> int:
        return max(0, self.size.own - machine.own_bytes(self.pid))


class Holder(Protocol):
    """The children of one model, which share its weights."""

    @property
    def name(self) -> str: ...
    def held(self) -> Sequence[Held]: ...


class Budget:
    """most: bytes that all children may take; left out, what the machine has. reclaimable: bytes that would come free
    if whatever is idle were unloaded; reclaim: unload some of it, and say whether there was any; wait_s: how long
    memory that is in use is waited for."""

    def __init__(
        self,
        most: int | None = None,
        reclaimable: Callable[[], int] = lambda: 0,
        reclaim: Callable[[], bool] = lambda: False,
        wait_s: float = 0,
    ) -> None:
        self._most, self._reclaimable, self._reclaim, self._wait_s = most, reclaimable, reclaim, wait_s
        self._n_freed = 0
        self._freed = threading.Condition()
        self._holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._joining = threading.Lock()  # nobody may join while the holders are gone through

    def join(self, holder: Holder) -> None:
        with self._joining:
            self._holders.add(holder)

    def _joined(self) -> list[Holder]:
        with self._joining:
            return list(self._holders)

    def memory(self) -> Memory:
        """What a model may be planned with: all that is free, or would be if nothing idle were loaded."""
        found = machine.memory()
        total = found.total if self._most is None else min(found.total, self._most)
        return Memory(total, max(0, self._free() + self._reclaimable()))

    def when_there_is_room(self, start: Callable[[], Started]) -> Started:
        """What `start` returns, which is tried anew whenever memory may have come free. Raises NoRoom."""
        deadline = time.monotonic() + self._wait_s
        while True:
            before = self._n_freed
            try:
                return start()
            except NoRoom:
                if not self._freed_since(before, deadline):
                    raise

    def _freed_since(self, before: int, deadline: float) -> bool:
        with self._freed:
            return self._freed.wait_for(lambda: self._n_freed != before, deadline - time.monotonic())

    def tell_freed(self) -> None:
        """Something is not in use any more, so that whoever waits for memory looks again."""
        with self._freed:
            self._n_freed += 1
            self._freed.notify_all()

    @contextmanager
    def room(self, holder: Holder, part: str, coming: Fit) -> Iterator[None]:
        """For a child that is started within the block. Raises NoRoom where it does not fit beside those that run; the
        first of all is not held up, for its context was chosen to fit."""
        with self._lock:
            while self._needed(holder, coming) > self._free() and any(other.held() for other in self._joined()):
                if not self._reclaim():
                    raise self._refusal(holder, part, coming)
            yield

    def _needed(self, holder: Holder, coming: Fit) -> int:
        return coming.own if holder.held() else coming.total

    def _free(self) -> int:
        running = [held for holder in self._joined() if (held := holder.held())]
        weights = sum(children[0].size.weights for children in running)
        promised = sum(child.size.own for children in running for child in children)
        free = machine.memory().available - sum(child.untaken for children in running for child in children)
        return (free if self._most is None else min(free, self._most - promised)) - weights

    def _refusal(self, holder: Holder, part: str, coming: Fit) -> NoRoom:
        held = [
            f"{other.name}'s {child.part} ({gigabytes(child.size.total)})"
            for other in self._joined()
            for child in other.held()
        ]
        return NoRoom(
            f"{holder.name} has no memory for its {part}, which takes {gigabytes(self._needed(holder, coming))}.",
            why=f"{gigabytes(max(0, self._free()))} are free beside what is held: {', '.join(held)}.",
            do="Close other programs or models, or load it with a smaller context or prompt cache.",
        )


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


OF_THIS_PROCESS = Budget()
