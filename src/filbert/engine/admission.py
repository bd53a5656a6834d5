"""Who may use the context. The slots of a worker share one cache, and the engine ends *all* answers under way when it
runs full (llama.cpp#23652); so an answer starts only when its prompt and its new tokens fit beside what runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from math import ceil
from typing import Any, Protocol

from filbert.core.errors import Busy
from filbert.engine.slots import Apart, Marks, Slot, Slots

FIRST_MEAN_S = 2.0  # that an answer takes, before any was timed
NEWEST_SHARE = 0.1  # of the last answer in the mean
MOST_WAIT_S = 60
NOBODY = "nobody"  # the owner of what everybody may know; keys are hexadecimal


class Admits(Protocol):
    """Whoever hands out the context."""

    def take_back(self, place: Place) -> None: ...


class Place:
    """A share of the context, asked for. `wait` until it is yours, `give_back` whether or not it was. owner: whose turn
    it takes; worker: who is to answer; marks: of the prompt. engine_fields: what is sent beside the request, known when
    it is reached; begun: to be set when the engine's answer has begun."""

    def __init__(self, admission: Admits, tokens: int, owner: str = "", worker: str = "", marks: Marks = ()) -> None:
        self.tokens, self.owner, self.worker, self.marks = tokens, owner, worker, marks
        self.engine_fields: dict[str, Any] = {}
        self.begun = False
        self.slot: Slot | None = None
        self.reached: Future[None] = Future()
        self.since = time.monotonic()  # that it was asked for, and then that it was reached
        self._admission = admission

    def wait(self) -> bool:
        """False when it was given back by another thread meanwhile."""
        try:
            self.reached.result()
        except CancelledError:
            return False
        return True

    async def reach(self) -> None:
        """As `wait`, for an event loop. Whoever stops waiting gives it back."""
        await asyncio.shield(asyncio.wrap_future(self.reached))

    def give_back(self) -> None:
        self._admission.take_back(self)


class Admission:
    """Owners take turns over `tokens` of context and `slots` answers at once; of one owner the first come are the first
    served. Whose turn it is waits for room, and all others behind: nobody waits for ever."""

    def __init__(self, tokens: int, slots: int, apart: Apart = "never") -> None:
        """apart: whether what an owner leaves in a slot is kept from the others."""
        self._tokens, self._slots = tokens, slots
        self._wanted_apart, self.apart = apart, apart == "always"
        self._first_owner: str | None = None
        self._slots_of: dict[str, Slots] = {}  # by the worker
        self._waiting: dict[str, deque[Place]] = {}  # the first owner's turn comes next
        self._given: set[Place] = set()
        self._mean_s = FIRST_MEAN_S
        self._lock = threading.Lock()

    def ask(
        self,
        tokens: int,
        owner: str = "",
        most_waiting: int | None = None,
        worker: str = "",
        marks: Marks = (),
    ) -> Place:
        """Raises Busy where so many wait already."""
        place = Place(self, min(tokens, self._tokens), owner, worker, marks)
        with self._lock:
            if most_waiting is not None and (waiting := self._n_waiting()) >= most_waiting:
                raise busy(waiting, self._wait_s(waiting))
            self._waiting.setdefault(owner, deque()).append(place)
            self._admit()
        return place

    def take_back(self, place: Place) -> None:
        with self._lock:
            place.reached.cancel()
            if place in self._given:
                self._given.discard(place)
                if place.slot:
                    self._slots_of[place.worker].give_back(place.slot, place.owner if place.begun else None)
                self._mean_s += (time.monotonic() - place.since - self._mean_s) * NEWEST_SHARE
            self._admit()

    @property
    def counts(self) -> tuple[int, int]:
        """How many have a place, and how many wait for one."""
        with self._lock:
            return len(self._given), self._n_waiting()

    def _n_waiting(self) -> int:
        return sum(not place.reached.cancelled() for queue in self._waiting.values() for place in queue)

    def _wait_s(self, waiting: int) -> int:
        return min(MOST_WAIT_S, ceil(self._mean_s * (waiting + 1) / self._slots))

    def _admit(self) -> None:
        used = sum(place.tokens for place in self._given)
        while self._waiting and len(self._given) < self._slots:
            owner, queue = next(iter(self._waiting.items()))
            place = queue[0]
            parts = self._parts(place)
            if not place.reached.cancelled() and (used + place.tokens > self._tokens or (parts and self._given)):
                return
            queue.popleft()
            if not queue:
                del self._waiting[owner]
            if place.reached.set_running_or_notify_cancel():  # from here on nobody can cancel it under our hands
                self._given.add(place)
                used += place.tokens
                place.since = time.monotonic()
                if self._first_owner is None and place.owner != NOBODY:
                    self._first_owner = place.owner
                self.apart = self.apart or parts
                if self.apart:
                    self._take_slot(place)
                place.reached.set_result(None)
                if queue:
                    self._waiting[owner] = self._waiting.pop(owner)  # to the end

    def _parts(self, place: Place) -> bool:
        """Whether with this place there are two owners who were one before. The workers remembered for one, so that
        they are begun anew (`Children.worker`), which has to wait until nobody uses them."""
        if self.apart or self._wanted_apart == "never":
            return False
        return self._first_owner is not None and place.owner not in (self._first_owner, NOBODY)

    def _take_slot(self, place: Place) -> None:
        slots = self._slots_of.setdefault(place.worker, Slots(self._slots))
        place.slot, place.engine_fields = slots.take(place.owner, place.marks)


def busy(waiting: int, retry_after_s: int) -> Busy:
    return Busy(
        f"{waiting} requests wait for this model already.",
        do=f"Ask again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )
