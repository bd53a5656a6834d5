"""What tests of running models look at: the engine's slots, processes, and whether something comes true."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import filbert
from filbert.engine.model import Model
from filbert.engine.transport import _Connection

PATIENCE_S = 180  # for what takes a moment, on a machine that may be busy


@contextmanager
def lasting(model: Path, home: Path, **options: Any) -> Iterator[filbert.Model]:
    """A model for a whole session: with a home of its own, since each test's goes with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(home))
        loaded = filbert.load(str(model), **options)
    with loaded:
        yield loaded


def busy_slots(model: Model) -> int:
    """How many answers the engine itself is working at."""
    socket = model.children.socket("text")
    connection: http.client.HTTPConnection = _Connection(socket.address, PATIENCE_S)
    connection.request("GET", "/slots", headers=socket.headers)
    slots = json.loads(connection.getresponse().read())
    connection.close()
    return sum(slot["is_processing"] for slot in slots)


def worker_pid(model: Model) -> int:
    return model.children.workers["text"].pid


def until(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether something comes true before our patience ends."""
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def children_of(pid: int) -> list[psutil.Process]:
    """Every process below one that runs a program of its own. Whoever starts one waits until it does, so that stopping
    it before would stop both."""
    parent = psutil.Process(pid)
    return [child for child in parent.children(recursive=True) if not _is_copy(child, parent)]


def _is_copy(child: psutil.Process, parent: psutil.Process) -> bool:
    try:
        return child.cmdline() == parent.cmdline()
    except psutil.Error:  # it has ended
        return False


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
