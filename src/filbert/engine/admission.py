"""Who may use the context. The slots of a worker share one cache, and the engine ends *all* answers under way when it
runs full (llama.cpp#23652); so an answer starts only when its prompt and its new tokens fit beside what runs."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import Protocol


class Admits(Protocol):
    """Whoever hands out the context."""

    def take_back(self, place: Place) -> None: ...


class Place:
    """A share of the context, asked for. `wait` until it is yours, `give_back` whether or not it was."""

    def __init__(self, admission: Admits, tokens: int) -> None:
        self.tokens = tokens
        self.reached: Future[None] = Future()
        self._admission = admission

    def wait(self) -> bool:
        """False when it was given back by another thread meanwhile."""
        try:
            self.reached.result()
        except CancelledError:
            return False
        return True

    def give_back(self) -> None:
        self._admission.take_back(self)


class Admission:
    """First come, first served over `tokens` of context and `slots` answers at once."""

    def __init__(self, tokens: int, slots: int) -> None:
        self._tokens, self._slots = tokens, slots
        self._waiting: deque[Place] = deque()
        self._given: set[Place] = set()
        self._lock = threading.Lock()

    def ask(self, tokens: int) -> Place:
        place = Place(self, min(tokens, self._tokens))
        with self._lock:
            self._waiting.append(place)
            self._admit()
        return place

    def take_back(self, place: Place) -> None:
        with self._lock:
            place.reached.cancel()
            self._given.discard(place)
            self._admit()

    def _admit(self) -> None:
        used = sum(place.tokens for place in self._given)
        while self._waiting and len(self._given) < self._slots:
            place = self._waiting[0]
            if place.reached.cancelled():
                self._waiting.popleft()
                continue
            if used + place.tokens > self._tokens:
                return
            self._waiting.popleft()
            if place.reached.set_running_or_notify_cancel():  # from here on nobody can cancel it under our hands
                self._given.add(place)
                used += place.tokens
                place.reached.set_result(None)
