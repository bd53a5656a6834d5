"""Measure what this machine does with a model's weights: once, in a few seconds, kept for the next time.

The kernels are timed in a child of their own, what a token costs beside them (choosing it, sending it) by real workers.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filbert.core import machine
from filbert.core.errors import EngineError, EngineMissing
from filbert.core.files import disk_errors, need_room
from filbert.core.jobs import Job, Progress
from filbert.core.settings import checked
from filbert.engine.calibration_model import Shape, write
from filbert.engine.child import Child
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.worker import Worker
from filbert.models import speed
from filbert.models.speed import Calibration
from filbert.models.store import in_place

STEP = "measuring this machine"
ROOM_BYTES = 700_000_000
SILENT_S = 60.0
BUSY_S = 0.3
FEW, MANY = 1024, 65536  # entries of a vocabulary
TOKENS, ANSWERS = 16, 8
BUSY_SHARE = 0.15  # of the cores


def calibrated(options: LoadOptions, *, again: bool = False) -> Job[Calibration]:
    """What was measured before, else now, and again where the machine was busy then and no longer is.
    Raises EngineMissing, EngineError, DiskFull, StoreReadOnly."""
    threads = options.threads or machine.cores()
    found = None if again else speed.kept_here(threads)
    if found and not (is_busy(found) and _is_idle()):
        return found
    if reason := machine.unsupported_by_engine():
        raise EngineMissing(reason, do="Memory can be reckoned all the same.")
    measured = yield from _measure(threads, options)
    speed.keep(measured)
    return measured


def is_busy(calibration: Calibration) -> bool:
    """Whether other programs kept so much of the machine busy that the figures may be too low."""
    return calibration.busy_cores > BUSY_SHARE * machine.cores()


def _is_idle() -> bool:
    return machine.busy_cores(BUSY_S) <= BUSY_SHARE * machine.cores()


def _measure(threads: int, options: LoadOptions) -> Job[Calibration]:
    with tempfile.TemporaryDirectory(prefix="filbert-") as name:
        folder = Path(name)
        need_room(folder, ROOM_BYTES)
        with disk_errors(folder / "model"):
            few = _token_s(folder, FEW, threads, options)
            yield Progress(STEP)
            many = _token_s(folder, MANY, threads, options)
        began, busy_s = time.monotonic(), machine.busy_s()
        kernels = yield from _kernels(folder, threads, options)
        others_s = machine.busy_s() - busy_s - kernels.pop("processor_s")
        busy_cores = max(0.0, others_s / (time.monotonic() - began))
    entry = max(0.0, many - few) / (MANY - FEW)
    tensors = kernels["tensor"] * Shape(64, 64, 1).tensors
    return Calibration(
        processor=machine.processor(),
        engine=machine.engine_build(),
        threads=threads,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        busy_cores=round(busy_cores, 2),
        token=max(0.0, few - entry * FEW - tensors),
        entry=entry,
        **kernels,
    )


def _kernels(folder: Path, threads: int, options: LoadOptions) -> Job[dict[str, Any]]:
    child = Child("calibration_main.py", {"folder": str(folder), "threads": threads, "openmp": options.openmp})
    try:
        while "done" in (said := child.hear(SILENT_S)):
            yield Progress(STEP, said["done"], said["of"], "steps")
    finally:
        child.kill()
    if "error" in said:
        raise EngineError(said["error"]["what"], why=said["error"]["why"], do=said["error"]["do"])
    answer: dict[str, Any] = said["answer"]
    return answer


def _token_s(folder: Path, vocabulary: int, threads: int, options: LoadOptions) -> float:
    """Seconds a token takes a worker whose model is next to nothing, but for its vocabulary; the median of some."""
    path = write(folder / f"words-{vocabulary}.gguf", Shape(64, 64, 1, vocabulary=vocabulary, speaks=True))
    plain = {"context": 512, "threads": threads, "openmp": options.openmp, "parallel": 1, "prompt_cache_mib": 0}
    worker = Worker(LoadPlan(in_place(path), checked(LoadOptions, plain)).worker("text"))
    try:
        body = {"prompt": [1, 2, 3], "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
        return 1 / statistics.median(_tokens_a_second(worker, body) for _ in range(ANSWERS))
    finally:
        worker.stop()


def _tokens_a_second(worker: Worker, body: Mapping[str, Any]) -> float:
    events = worker.transport().send("/v1/completions", body)
    return max(float(event["timings"]["predicted_per_second"]) for event in events if "timings" in event)
