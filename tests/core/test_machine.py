from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from filbert.core import machine

MIB = 1 << 20


def test_memory_and_cores_are_those_of_this_machine() -> None:
    memory = machine.memory()
    assert 0 < memory.available <= memory.total <= psutil.virtual_memory().total
    assert 1 <= machine.cores() <= (psutil.cpu_count() or 1)
    assert 0 <= machine.busy_cores(0.01) <= (psutil.cpu_count() or 1) + 0.5
    assert machine.processor()


def test_memory_in_use_grows_with_what_is_taken_and_of_a_process_that_is_gone_there_is_none() -> None:
    before = machine.resident_bytes(os.getpid())
    taken = bytearray(os.urandom(1)) * (64 * MIB)
    assert machine.resident_bytes(os.getpid()) - before > 48 * MIB
    assert len(taken) == 64 * MIB
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert machine.resident_bytes(gone.pid) == machine.resident_bytes(None) == 0


def test_the_engine_runs_here() -> None:
    if platform.machine() in ("x86_64", "AMD64"):
        assert machine.unsupported_by_engine() == "" or "AVX2" in machine.unsupported_by_engine()
    else:
        assert "no wheel" in machine.unsupported_by_engine() or platform.system() == "Darwin"


def group(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_containers_limit_counts_and_what_the_kernel_only_keeps_is_free(tmp_path: Path) -> None:
    statistics = f"anon {300 * MIB}\nactive_file {50 * MIB}\ninactive_file {500 * MIB}\nshmem 0\n"
    files = {"memory.max": f"{1000 * MIB}\n", "memory.current": f"{900 * MIB}\n", "memory.stat": statistics}
    assert machine.container_memory(group(tmp_path, files)) == machine.Memory(1000 * MIB, 650 * MIB)


def test_the_first_version_of_control_groups_is_understood(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": f"{1000 * MIB}\n",
        "memory/memory.usage_in_bytes": f"{900 * MIB}\n",
        "memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {100 * MIB}\ntotal_active_file 0\n",
    }
    assert machine.container_memory(group(tmp_path, files)) == machine.Memory(1000 * MIB, 200 * MIB)


@pytest.mark.parametrize(
    "files",
    [{}, {"memory.max": "max\n"}, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, {"memory.max": "5\n"}],
    ids=["no groups", "no limit", "no limit, version 1", "limit without the rest"],
)
def test_without_a_limit_the_machine_counts(tmp_path: Path, files: dict[str, str]) -> None:
    assert machine.container_memory(group(tmp_path, files)) is None


@pytest.mark.parametrize(("system", "name", "works"), [("linux", "aarch64", False), ("darwin", "arm64", True)])
def test_where_there_is_no_x86_only_a_mac_has_an_engine(
    monkeypatch: pytest.MonkeyPatch, system: str, name: str, works: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    monkeypatch.setattr(sys, "platform", system)
    assert machine.unsupported_by_engine() == ("" if works else f"The engine has no wheel for {system} on {name}.")


def test_a_processor_without_avx2_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "has_avx2", lambda: False)
    said = machine.unsupported_by_engine()
    assert machine.processor() in said
    assert "no AVX2" in said
