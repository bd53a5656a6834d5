"""`filbert doctor`: it looks, it never falls over, and it says what would help."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from terminal import Run

from filbert.face.checkup import Checkup, advice, checkup
from filbert.models.speed import Calibration


def asked(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_tells_what_is_here(filbert: Run, shelf: Path) -> None:
    found = asked(filbert("doctor", "--json", FILBERT_HOME=str(shelf)))
    assert found["engine"]["problem"] == ""
    assert found["engine"]["build"] == found["engine"]["made_for"]
    assert {"llama", "qwen3", "gemma3", "bert"} <= set(found["engine"]["architectures"])
    assert (found["store"]["models"], found["store"]["size_bytes"]) == (1, 98_362_432)
    assert found["machine"]["cores"] >= 1 and found["machine"]["memory"] > 0


def test_names_of_one_file_are_one_model(filbert: Run, stocked: Path) -> None:
    for name in ("mine", "yours"):
        assert filbert("set", name, "of=smollm2:135m").returncode == 0
    found = asked(filbert("doctor", "--json"))
    assert (found["store"]["models"], found["store"]["size_bytes"]) == (1, 98_362_432)


def test_people_get_lines_and_one_sentence_each_of_advice(filbert: Run) -> None:
    done = filbert("doctor")
    assert done.returncode == 0
    for label in ("processor", "memory", "disk", "engine", "OpenMP", "models", "adapters", "settings", "architectures"):
        assert f"\n{label}" in done.stdout
    architectures = next(line for line in done.stdout.splitlines() if line.startswith("architectures"))
    assert "llama, qwen3" in architectures and "(all: `--json`)" in architectures
    assert "- There is no model yet: `filbert pull smollm2:135m`" in done.stdout


def test_it_tells_when_speed_was_measured_or_how_to(filbert: Run, measured: Calibration) -> None:
    assert "speed         measured 2026-01-01T00:00:00+00:00" in filbert("doctor").stdout
    there = filbert("doctor", FILBERT_LOAD_THREADS=str(measured.threads + 1)).stdout
    assert "speed         not measured: `filbert fit NAME` does that" in there


def test_an_engine_that_cannot_load_is_told_not_raised(filbert: Run, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp").mkdir()
    engine = tmp_path / "xllamacpp/__init__.py"
    for code, said in (
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "libgomp1"),
        ("import os; os.abort()", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
    ):
        engine.write_text(code)
        found = asked(filbert("doctor", "--json", PYTHONPATH=str(tmp_path)))
        assert said in found["engine"]["problem"] + " ".join(found["advice"])


def test_damaged_models_and_wrong_settings_are_told(filbert: Run, stocked: Path) -> None:
    (model,) = (stocked / "models/files").glob("*/*.gguf")
    model.unlink()
    found = asked(filbert("doctor", "--json", FILBERT_LOAD_CONTEXT="many"))
    assert found["store"]["models"] == 0
    assert any("smollm2:135m-q4_1 is not whole." in sentence for sentence in found["advice"])
    assert any("context cannot be 'many'." in sentence for sentence in found["advice"])


@pytest.fixture(scope="module")
def healthy() -> Checkup:
    """This machine as it would be with nothing wrong."""
    found = checkup()
    machine = replace(
        found.machine,
        system="Linux x86_64",
        avx2=True,
        cores=2,
        busy_cores=0,
        memory_available=8 << 30,
        disk_free=8 << 30,
    )
    engine = replace(found.engine, unsupported="", problem="", bundled_openmp=True)
    return replace(
        found,
        machine=machine,
        engine=engine,
        store=replace(found.store, models=1, size_bytes=2_000_000_000, writable=True, damaged=(), unfinished=()),
    )


def test_where_all_is_well_there_is_no_advice(healthy: Checkup) -> None:
    assert list(advice(healthy.machine, healthy.engine, healthy.store)) == []


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("engine", {"unsupported": "The engine has no wheel for linux on aarch64."}, "x86 processors with AVX2"),
        ("engine", {"build": "", "problem": "x"}, "install xllamacpp=="),
        ("engine", {"problem": "The installed engine is 1."}, "The installed engine is 1."),
        ("engine", {"bundled_openmp": False}, "cmeel-libomp"),
        ("machine", {"memory_available": 5 << 20}, "of memory are free"),
        ("machine", {"disk_free": 5 << 20}, "of disk are free"),
        ("machine", {"busy_cores": 1.8}, "1.8 of 2 cores busy"),
        ("store", {"writable": False}, "FILBERT_HOME"),
        ("store", {"models": 0}, "filbert pull"),
        ("store", {"size_bytes": 98_362_432}, "room for larger models"),
        ("store", {"unfinished": (3_000_000, 2_000_000)}, "Downloads that no name needs yet or any more (2) take 5 MB"),
    ],
)
def test_each_trouble_has_its_sentence(healthy: Checkup, part: str, change: dict[str, Any], said: str) -> None:
    troubled = replace(healthy, **{part: replace(getattr(healthy, part), **change)})
    (sentence,) = advice(troubled.machine, troubled.engine, troubled.store)
    assert said in sentence
