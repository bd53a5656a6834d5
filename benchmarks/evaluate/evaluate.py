"""`filbert evaluate` beside lm-evaluation-harness: do they agree, how fast is either, what do they take of memory.

    python benchmarks/evaluate/evaluate.py --harness PYTHON [--limit 200] [--rounds 1] [--threads 2] [--tasks paper]

PYTHON is an interpreter with lm-eval 0.4.13, torch and transformers: `make benchmark-evaluate` makes one in `.harness`.
The model is the starter at full precision, off its 4-bit grid (full_precision.py): lm-eval reads it by transformers in
float32, batches of 8; Filbert reads the same weights as F32 and as Q8_0. Both ask the first items of each task, out of
the same files; each task is run by one after the other, round by round, and compared by the median. Seconds, wall and
CPU, are those of scoring, tokens included, without the start. Close other programs first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from weights import KINDS, made

from filbert.core import machine, paths
from filbert.core.jobs import finish
from filbert.core.settings import configured
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.scorer import Scorer
from filbert.evaluate import paper_sets
from filbert.evaluate.evaluation import Evaluation
from filbert.evaluate.kept_runs import items_of
from filbert.evaluate.task import PAPER
from filbert.models.download_options import DownloadOptions
from filbert.models.store import in_place
from filbert.report.table import table

CLOSE = 5e-3  # relative: log-likelihoods that are called the same
HARNESS = "lm-eval, float32"


@dataclass(frozen=True, slots=True)
class Run:
    """One task by one of them. loglikelihoods: an item a row, a choice a number; peak_bytes: resident, of all its
    processes."""

    loglikelihoods: Sequence[Sequence[float]]
    scores: Mapping[str, float]
    wall_s: float
    cpu_s: float
    peak_bytes: int


class Harness:
    def __init__(self, python: str, folder: Path, threads: int) -> None:
        program = Path(__file__).with_name("harness.py")
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [python, program, folder, str(threads)],
            env=os.environ | offline | {"OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def run(self, task: str, files: Mapping[str, str], limit: int) -> Run:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"task": task, "files": files, "limit": limit}) + "\n")
        self._process.stdin.flush()
        return Run(**self._answer())

    def _answer(self) -> Any:
        """What it prints beside its answers is none of ours."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(("{", '"')):
                return json.loads(line)
        raise SystemExit(f"{self._process.args} ended with {self._process.wait()}.")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def measured(model: Model, task: str, limit: int) -> Run:
    """As if for the first time: what it keeps is removed."""
    scorer = model.scorer
    scorer.tokenize([""])  # it starts when it is first asked
    wall, cpu = time.perf_counter(), cpu_seconds(scorer)
    (result,) = finish(Evaluation(task, limit).job(model))
    spent_s, worked_s = time.perf_counter() - wall, cpu_seconds(scorer) - cpu
    found = [row["loglikelihoods"] for row in items_of(result.run)]
    scores = {metric.name: metric.value for metric in result.metrics}
    shutil.rmtree(paths.evaluations_folder())
    return Run(found, scores, spent_s, worked_s, peak_bytes(scorer))


def cpu_seconds(scorer: Scorer) -> float:
    times = psutil.Process(scorer.pid).cpu_times()
    return time.process_time() + times.user + times.system


def peak_bytes(scorer: Scorer) -> int:
    status = Path(f"/proc/{scorer.pid}/status").read_text("utf-8")
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * (peak + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    args = _asked()
    work = Path(args.harness).absolute().parents[1]
    os.environ["FILBERT_HOME"] = str(work / "home")
    sets = finish(paper_sets.fetched(configured(DownloadOptions)))
    files = made(Path(args.harness), work / "models")
    print(f"{args.limit} items a task, {args.threads} threads, {machine.processor()}; load {os.getloadavg()[0]:.1f}\n")
    runs: dict[str, dict[str, list[Run]]] = {}
    with ExitStack() as stack:
        harness = stack.enter_context(closing(Harness(args.harness, files.folder, args.threads)))
        options = configured(LoadOptions, {"threads": args.threads})
        models = {kind: stack.enter_context(Model(in_place(file), options)) for kind, file in files.ggufs.items()}
        for task in [task for name in args.tasks.split(",") for task in (PAPER if name == "paper" else (name,))]:
            splits = {file.name.split(".")[0]: str(file) for file in (sets / task).iterdir()}
            of_task = runs.setdefault(task, {})
            for _ in range(args.rounds):
                of_task.setdefault(HARNESS, []).append(harness.run(task, splits, args.limit))
                for kind, model in models.items():
                    of_task.setdefault(kind, []).append(measured(model, task, args.limit))
            print(f"{task}: done", file=sys.stderr, flush=True)
    tell(runs)


def tell(runs: Mapping[str, Mapping[str, Sequence[Run]]]) -> None:
    print("Agreement: predictions by acc, the same; log-likelihoods of choices within 0.005, and the farthest apart;")
    print("items by which acc and acc_norm differ (targets for F32: 99 %, all, 1 of 200)\n")
    rows = [[task, kind, *agreement(by[HARNESS][0], by[kind][0])] for task, by in runs.items() for kind in KINDS]
    print(table(("task", "file", "predictions", "log-likelihoods", "farthest", "acc", "acc_norm"), rows))
    print(f"\nSpeed: seconds, and how many times as fast as {HARNESS} (targets for Q8_0: wall 1.8, CPU 2)\n")
    print(table(("task", "who", "wall s", "CPU s", "wall", "CPU"), list(speeds(runs))))
    print(f"\nMemory: the peak of all processes, MB, against {HARNESS} (target 0.4)\n")
    peaks = {who: max(run.peak_bytes for by in runs.values() for run in by[who]) for who in (HARNESS, *KINDS)}
    print(table(("who", "MB", "÷"), [[w, f"{b / 1e6:.0f}", f"{b / peaks[HARNESS]:.2f}"] for w, b in peaks.items()]))


def agreement(theirs: Run, ours: Run) -> list[str]:
    pairs = list(zip(theirs.loglikelihoods, ours.loglikelihoods, strict=True))
    same = sum(int(np.argmax(one)) == int(np.argmax(other)) for one, other in pairs)
    apart = np.concatenate([np.abs(np.subtract(one, other) / np.asarray(one)) for one, other in pairs])
    items = {name: abs(value - ours.scores[name]) * len(pairs) for name, value in theirs.scores.items()}
    differ = [f"{items[name]:.0f}" if name in items else "" for name in ("acc", "acc_norm")]
    return [f"{same / len(pairs):.1%}", f"{(apart <= CLOSE).mean():.1%}", f"{apart.max():.4f}", *differ]


def speeds(runs: Mapping[str, Mapping[str, Sequence[Run]]]) -> Iterator[list[str]]:
    ratios: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for task, by in runs.items():
        wall = {who: statistics.median(run.wall_s for run in each) for who, each in by.items()}
        cpu = {who: statistics.median(run.cpu_s for run in each) for who, each in by.items()}
        yield [task, HARNESS, f"{wall[HARNESS]:.1f}", f"{cpu[HARNESS]:.1f}", "", ""]
        for kind in KINDS:
            ratios[kind].append((wall[HARNESS] / wall[kind], cpu[HARNESS] / cpu[kind]))
            faster = [f"{ratio:.2f}" for ratio in ratios[kind][-1]]
            yield [task, kind, f"{wall[kind]:.1f}", f"{cpu[kind]:.1f}", *faster]
    for kind, each in ratios.items():
        means = [f"{statistics.geometric_mean(column):.2f}" for column in zip(*each, strict=True)]
        yield ["geometric mean", kind, "", "", *means]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default="paper")
    return parser.parse_args()


if __name__ == "__main__":
    main()
