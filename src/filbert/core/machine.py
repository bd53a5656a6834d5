"""What this machine is and how it is doing: cores, memory, load, instruction set.

psutil is imported where it is needed: every command imports this module, and few ask.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. A container's limit counts where it is lower than the machine's memory."""

    total: int
    available: int


def memory() -> Memory:
    import psutil

    seen = psutil.virtual_memory()
    total, available = int(seen.total), int(seen.available)
    if container := container_memory(CONTROL_GROUP):
        total, available = min(total, container.total), min(available, container.available)
    return Memory(total, max(0, available))


def own_bytes(pid: int | None) -> int:
    """Memory that a process shares with nobody, as mapped files are shared; 0 of one that is gone."""
    import psutil

    try:
        found = psutil.Process(pid).memory_info() if pid else None
    except psutil.Error:
        return 0
    return max(0, int(found.rss) - int(getattr(found, "shared", 0))) if found else 0


def resident_bytes(pid: int | None) -> int:
    """Memory that a process has in use, mapped files among it; on Linux what several share counts for each by its
    share. 0 of one that is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return int(process.memory_full_info().pss if psutil.LINUX else process.memory_info().rss) if pid else 0
    except psutil.Error:
        return 0


def container_memory(group: Path) -> Memory | None:
    """Of the control group this process lives in, version 2 or 1; None without a limit. Files that the kernel keeps
    in memory while nobody needs the room count as available: just after a download they may fill the limit."""
    for limit, used, statistics, kept in (
        ("memory.max", "memory.current", "memory.stat", ("active_file", "inactive_file")),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            ("total_active_file", "total_inactive_file"),
        ),
    ):
        try:
            total = (group / limit).read_text().strip()
            if total == "max" or int(total) >= 1 << 60:
                continue
            lines = (group / statistics).read_text().splitlines()
            files = sum(int(line.split()[1]) for line in lines if line.startswith(kept))
            return Memory(int(total), int(total) - int((group / used).read_text()) + files)
        except OSError:
            continue
    return None


@cache
def cores() -> int:
    """Physical cores this process may use: hyperthreads share the units that matrix products need."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _container_cores()
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(physical, allowed, quota or allowed))


def _container_cores() -> int | None:
    try:
        quota, period = (CONTROL_GROUP / "cpu.max").read_text().split()
        return None if quota == "max" else max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None


def busy_cores(interval_s: float = 0.1) -> float:
    """How many cores other work keeps busy, measured over `interval_s` seconds."""
    import psutil

    return float(psutil.cpu_percent(interval=interval_s)) / 100 * (psutil.cpu_count() or 1)


def busy_s() -> float:
    """Seconds that all cores together have worked since the machine started."""
    import psutil

    times = psutil.cpu_times()
    counted_twice_or_waiting = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(times)) - sum(float(getattr(times, name, 0)) for name in counted_twice_or_waiting)


@cache
def processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


@cache
def has_avx2() -> bool:
    """Whether an x86 processor knows AVX2 and FMA, without which the engine's wheel ends in an illegal instruction."""
    if sys.platform == "linux":
        flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        return {"avx2", "fma"} <= set(flags.split())
    if sys.platform == "win32":
        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(40))  # PF_AVX2_INSTRUCTIONS_AVAILABLE
    return True  # every Mac that runs a supported macOS has it


def engine_build() -> str:
    """The version of the engine that is installed, "" for none."""
    from importlib import metadata

    try:
        return metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return ""


def unsupported_by_engine() -> str:
    """Why the engine cannot run here, as one sentence, or "" where it can."""
    machine = platform.machine()
    if is_x86():
        return "" if has_avx2() else f"This processor ({processor()}) has no AVX2, which the engine's wheel needs."
    if sys.platform == "darwin" and machine == "arm64":
        return ""
    return f"The engine has no wheel for {sys.platform} on {machine}."
