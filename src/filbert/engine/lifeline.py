"""The child's end of the pipes (standard library only: a child starts in tens of milliseconds).

`open_lifeline` is called first, before native code is loaded.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


def open_lifeline() -> Callable[[dict[str, Any]], None]:
    """Keep standard output for our own documents, send what others print to standard error; return how to speak."""
    ours = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        ours.write(json.dumps(message).encode() + b"\n")

    return say


def bound_memory(limit_bytes: int) -> None:
    """What explodes (a chat template, a grammar) then fails to allocate, and the machine keeps its memory."""
    if sys.platform == "linux":  # macOS does not hold a process to it, and Windows would need a job object
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def heard() -> Iterator[dict[str, Any]]:
    """What the parent says, until it is gone."""
    for line in sys.stdin.buffer:
        yield json.loads(line)


def end_with_parent() -> None:
    """For a child that has heard all there is to hear: it ends when the pipe does."""
    threading.Thread(target=_hear_out, daemon=True).start()


def _hear_out() -> None:
    for _ in heard():
        pass
    os._exit(0)


def _watch_parent(parent: int) -> None:
    """A second string to the pipe's end: another child of the caller may hold the pipe open."""
    while os.name == "posix":
        time.sleep(1)
        if os.getppid() != parent:
            os._exit(0)
