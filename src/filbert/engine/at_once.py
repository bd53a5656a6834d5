"""For an event loop, which must not wait: do at once what asks nobody and takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
