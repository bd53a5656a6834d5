from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from filbert import Model
from filbert.core.machine import cores
from filbert.engine import threads
from running import worker_pid


def test_what_the_person_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_NO_BACKTRACE", "0")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/their/own")
    settings = threads.environment(cores())
    assert "GGML_NO_BACKTRACE" not in settings
    assert settings.get("LD_LIBRARY_PATH", "/their/own").endswith("/their/own")


def test_the_callers_own_environment_is_not_touched(model: Model) -> None:
    assert "GGML_NO_BACKTRACE" not in os.environ
    assert threads.bundled_runtime() is None or str(threads.bundled_runtime()) not in os.environ.get(
        "LD_LIBRARY_PATH", ""
    )


def test_a_worker_runs_on_the_runtime_that_came_with_us(model: Model) -> None:
    mapped = {Path(file.path) for file in psutil.Process(worker_pid(model)).memory_maps()}
    folder = threads.bundled_runtime()
    assert folder
    assert any(file.parent == folder.resolve() and "omp" in file.name for file in mapped)


def test_llama_cpp_openmp_spinning_the_runtime_lets_waiting_threads_sleep_and_binds_them(model: Model) -> None:
    environment = psutil.Process(worker_pid(model)).environ()
    folder = threads.bundled_runtime()
    assert folder
    program = f"import ctypes; ctypes.CDLL({str(folder / 'libgomp.so.1')!r}).omp_get_max_threads()"
    told = subprocess.run(
        [sys.executable, "-c", program], env={**environment, "KMP_SETTINGS": "1"}, capture_output=True, text=True
    )
    effective = (told.stdout + told.stderr).partition("Effective settings")[2]
    assert "KMP_BLOCKTIME=200us" in effective
    assert "OMP_PROC_BIND='spread'" in effective


def test_threads_can_be_set(load: Callable[..., Model]) -> None:
    one: Model = load("dense", threads=1)
    assert one.threads == 1
    assert "1 threads" in one.summary
    assert one.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_the_caller_holds_no_native_engine_code(model: Model) -> None:
    assert model.generate("hi", max_tokens=1).reply()
    assert not [file.path for file in psutil.Process().memory_maps() if "llama" in file.path.lower()]
