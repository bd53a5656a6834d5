"""How many threads the engine gets, and how they wait for one another."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from filbert.core.machine import cores


def environment() -> dict[str, str]:
    """Variables a child needs before native code loads: OpenMP's runtime and its waiting, no backtraces by gdb."""
    settings = {"GGML_NO_BACKTRACE": "1"}
    folder = Path(sysconfig.get_path("purelib")) / "cmeel.prefix" / "lib"
    if (folder / "libgomp.so.1").exists():
        before = os.environ.get("LD_LIBRARY_PATH", "")
        settings["LD_LIBRARY_PATH"] = f"{folder}{os.pathsep}{before}" if before else str(folder)
    return settings


def choose() -> int:
    """One thread a physical core this process may use."""
    return cores()
