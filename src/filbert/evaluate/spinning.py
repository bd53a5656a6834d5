"""Other people's work: processes that keep cores busy, and end with whoever started them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Its standard input closes when its parent ends, however that dies.
ENDLESS = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(flush=True)
while True: pass
"""


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """So many processes, each in an endless loop when the block begins."""
    with ExitStack() as ends:
        started = [_started(ends) for _ in range(count)]
        for process in started:
            assert process.stdout
            process.stdout.readline()
        yield


def _started(ends: ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", ENDLESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is for us, who end it; so on Windows:
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    ends.enter_context(process)  # closes its pipes, and waits
    ends.callback(process.kill)
    return process
