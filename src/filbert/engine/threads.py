"""How many threads the engine gets, and how they wait for one another.

An engine thread spins while it waits for its neighbours, which on a busy machine burns the time they need: with one
other program a core, GNU's runtime at its defaults fell from 110 to 4-26 tokens/s. LLVM's runtime is told to spin for
200 µs and then to sleep, since the kernel runs a sleeper that wakes before a program that never sleeps; bound to their
cores, its threads do not end up waiting for each other on the same one. So they follow the load without being told
(docs/decisions/002-openmp.md, benchmarks/run).
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Literal

from filbert.core.machine import cores

Runtime = Literal["bundled", "system"]


def environment(threads: int, runtime: Runtime = "bundled") -> dict[str, str]:
    """Variables a child needs before native code loads. What the person has set is left alone."""
    settings = {
        "GGML_NO_BACKTRACE": "1",  # with gdb on the machine an abort would print 60 lines and take a second
        "KMP_BLOCKTIME": "200us",
    }
    if threads >= cores():  # with fewer, two models would be bound to the same cores
        settings["OMP_PROC_BIND"] = "true"
    settings = {name: value for name, value in settings.items() if name not in os.environ}
    if runtime == "bundled" and (folder := bundled_runtime()):
        before = os.environ.get("LD_LIBRARY_PATH", "")
        settings["LD_LIBRARY_PATH"] = f"{folder}{os.pathsep}{before}" if before else str(folder)
    return settings


def bundled_runtime() -> Path | None:
    """The folder of LLVM's OpenMP under GNU's name, from the wheel cmeel-libomp; it has one for Linux only."""
    folder = Path(sysconfig.get_path("purelib")) / "cmeel.prefix" / "lib"
    return folder if (folder / "libgomp.so.1").exists() else None
