"""Who may use the context. The slots of a worker share one cache, and the engine ends *all* answers under way when it
runs full (llama.cpp#23652); so an answer starts only when its prompt and its new tokens fit beside what runs."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future


class Admission:
    """First come, first served over `tokens` of context and `slots` answers at once."""

    def __init__(self, tokens: int, slots: int) -> None:
        self._free_tokens, self._free_slots = tokens, slots
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._lock = threading.Lock()

    def ask(self, tokens: int) -> Future[None]:
        """A future that is done when the place is yours; give it back with `leave(tokens)`, or with `cancel` before."""
        place: Future[None] = Future()
        with self._lock:
            self._waiting.append((tokens, place))
            self._admit()
        return place

    def cancel(self, tokens: int, place: Future[None]) -> None:
        """Give back a place whether or not it was reached."""
        if not place.cancel():
            self.leave(tokens)
            return
        with self._lock:
            self._admit()

    def leave(self, tokens: int) -> None:
        with self._lock:
            self._free_tokens += tokens
            self._free_slots += 1
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._free_slots > 0:
            tokens, place = self._waiting[0]
            if tokens > self._free_tokens and not place.cancelled():
                return
            self._waiting.popleft()
            if place.set_running_or_notify_cancel():
                self._free_tokens -= tokens
                self._free_slots -= 1
                place.set_result(None)
