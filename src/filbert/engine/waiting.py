"""For an event loop, which must not wait: what it does itself, and the threads for all else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

T = TypeVar("T")
_at_once: ContextVar[bool] = ContextVar("at_once", default=False)


class WouldWait(Exception):
    """It takes a thread that may wait."""


@contextmanager
def at_once() -> Iterator[None]:
    """Within it whatever calls `need_time` raises WouldWait."""
    token = _at_once.set(True)
    try:
        yield
    finally:
        _at_once.reset(token)


def need_time() -> None:
    """Told by what waits for others, or may take long."""
    if _at_once.get():
        raise WouldWait


class Threads:
    """For calls that wait: those of one group keep no others waiting."""

    def __init__(self, most: int) -> None:
        """most: calls at once; more wait."""
        self._pool = ThreadPoolExecutor(most, "filbert-waits")  # starts no thread before the first call

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, call)
