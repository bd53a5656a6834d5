"""`filbert compress` beside llama.cpp's quantiser: what files of the same bytes lose, and how long they take to write.

    python benchmarks/compress/compress.py MODEL --quantize LLAMA_QUANTIZE --work FOLDER
        [--against Q4_K_M,IQ4_XS,…|''] [--efforts none,low,high] [--sensitivity auto] [--steps 400] [--windows 32]

MODEL is a full model, such as `make benchmark-evaluate` leaves in `.harness`; LLAMA_QUANTIZE is llama.cpp's program,
of the engine's own sources. Both get the same importance matrix, of the text that ships. Against each of llama.cpp's
mixes, and against files of one single type, ours has as many bytes at most, at each `--effort`; the table is believed,
without `--refine`. The mean KL divergence from MODEL is measured in the engine, at all positions of windows of 512
tokens of WikiText-2 (`FILBERT_DATA`), which nothing of ours has seen; the interval of the ratio is 95 %, by a bootstrap
over windows, paired. What stands in FOLDER is not made again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import psutil

from filbert.compress.distil import distil_job
from filbert.compress.effort import STEPS, WINDOW, WINDOWS
from filbert.compress.equalise import equalised_job
from filbert.compress.gradient import windows_of
from filbert.compress.imatrix import ImportanceMatrix
from filbert.compress.optimise import Table
from filbert.compress.plan import Plan, Source, plan
from filbert.compress.prepare import Asked, importance_job, table_job
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import Recipe, stock
from filbert.compress.texts import default_texts
from filbert.core.files import sha256_of
from filbert.core.jobs import Job, Progress, finish
from filbert.engine.divergence import Divergence
from filbert.engine.likelihood import Numbers
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.model import Model
from filbert.models.gguf import check_split
from filbert.models.store import in_place
from filbert.report.statistics import paired_bootstrap, ratio
from filbert.report.table import table

MIXES = {"Q3_K_M": 0.35, "IQ4_XS": 0.42, "Q4_K_M": 0.44, "Q5_K_M": 0.92}  # required ratios
UNIFORM = {"Q4_1": 0.85, "Q5_K": 0.85}  # rows that are no whole number of blocks get the next type
ROUNDS = 3
HEAD = ("against", "bytes", "its KL", "effort", "our bytes", "our KL", "ratio", "95 %", "required")


@dataclass
class Bench:
    """tables: by effort, high having that of low."""

    full: LoadPlan
    work: Path
    quantize: Path
    source: Source
    importance: ImportanceMatrix
    tables: Mapping[str, Table]
    divergence: Divergence
    steps: int

    def theirs(self, name: str) -> Path:
        file = self.work / f"llama.cpp-{name}.gguf"
        if not file.exists():
            if name in MIXES:
                by_llama_quantize(self.quantize, self.full.stored.path, file, name, self.importance.path)
            else:
                recipe = Recipe(name=name, type=name, file_type=1024)
                done(quantise_job(plan(self.source, recipe, self.importance), file), name)
        return file

    def ours(self, name: str, size_bytes: int, effort: str) -> Path:
        found = "none" if effort == "none" else "low"
        file = self.work / f"filbert-{name}-{found}.gguf"
        if not file.exists():
            done(quantise_job(self.tables[found].of_size(size_bytes, name), file), f"as {name}")
        if effort != "high":
            return file
        trained = self.work / f"filbert-{name}-{self.steps}.gguf"
        if not trained.exists():
            windows = windows_of(self.full, texts(self.full), WINDOWS, WINDOW)
            job = distil_job(self.full, file, sha256_of(file), trained, windows, self.steps, self.work / "teacher")
            done(job, f"training as {name}")
        return trained

    def kl(self, file: Path) -> Numbers:
        """Of each window, the mean."""
        kept = file.with_suffix(".npy")
        if not kept.exists():
            np.save(kept, done(self.divergence.means_of(LoadPlan(in_place(file), self.full.options)), file.name))
        found: Numbers = np.load(kept)
        return found

    def row(self, name: str, effort: str) -> list[str]:
        theirs = self.theirs(name)
        ours = self.ours(name, theirs.stat().st_size, effort)
        base, found = self.kl(theirs), self.kl(ours)
        low, high = paired_bootstrap(ratio, base, found)
        return [
            *(name, f"{theirs.stat().st_size:,}", f"{base.mean():.5f}", effort, f"{ours.stat().st_size:,}"),
            *(f"{found.mean():.5f}", f"{found.mean() / base.mean():.3f}", f"{low:.3f} to {high:.3f}"),
            f"{(MIXES | UNIFORM)[name]:.2f}{'' if high < (MIXES | UNIFORM)[name] else ', missed'}",
        ]


def by_llama_quantize(program: Path, source: Path, target: Path, name: str, importance: Path) -> float:
    """Seconds."""
    start = time.monotonic()
    command = [program, "--imatrix", importance, source, target, name, str(os.cpu_count())]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return time.monotonic() - start


def times(bench: Bench, name: str) -> tuple[float, float, int]:
    """Our time as a ratio to llama.cpp's, the median of rounds in turn; its seconds; and the most memory that the
    quantiser took, in a round that is not timed: asking for it takes a tenth of that."""
    ratios, seconds, peaks = [], [], [0]
    for _ in range(ROUNDS):
        target = bench.work / "timed.gguf"
        seconds.append(by_llama_quantize(bench.quantize, bench.full.stored.path, target, name, bench.importance.path))
        target.unlink()
        start = time.monotonic()
        finish(quantise_job(mix(bench, name), target, threads=os.cpu_count()))
        ratios.append((time.monotonic() - start) / seconds[-1])
        target.unlink()
    finish(quantise_job(mix(bench, name), target, threads=os.cpu_count()), lambda event: peaks.append(resident()))
    target.unlink()
    return statistics.median(ratios), statistics.median(seconds), max(peaks)


def resident() -> int:
    """Bytes of this process and its children."""
    own = psutil.Process()
    return sum(each.memory_info().rss for each in (own, *own.children(recursive=True)))


def mix(bench: Bench, name: str) -> Plan:
    return plan(bench.source, stock(name), bench.importance)


def texts(full: LoadPlan) -> Sequence[object]:
    with Model(full.stored, full.options) as model:
        return default_texts(model)


def done(job: Job[object], what: str) -> object:
    last = [""]

    def tell(event: Progress) -> None:
        line = f"{what}: {event.step}"
        if line != last[0]:
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
            last[0] = line

    return finish(job, tell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--quantize", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--against", default=",".join(MIXES | UNIFORM))
    parser.add_argument("--sensitivity", default="auto")
    parser.add_argument("--efforts", default="none,low")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--no-times", action="store_true")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    full = LoadPlan(in_place(asked.model), LoadOptions())
    plain = Asked(
        Source(full.stored, check_split(full.stored.parts)), full.options, texts(full), None, asked.sensitivity
    )
    importance = done(importance_job(plain), "importance matrix")
    tables, efforts = {}, asked.efforts.split(",") if asked.against else []
    if "none" in efforts:
        tables["none"] = done(table_job(plain), "table")
    if {"low", "high"} & set(efforts):
        other = done(equalised_job(plain), "re-scaled")
        found = replace(plain, source=other.source, importance=other.importance) if other else plain
        tables["low"] = done(table_job(found), "table, re-scaled")
    text = (Path(os.environ["FILBERT_DATA"]) / "text/wikitext2_valid.txt").read_text("utf-8")
    with Divergence(full, [(text, False)], 512, asked.windows, asked.work / "logits") as divergence:
        bench = Bench(full, asked.work, asked.quantize, plain.source, importance, tables, divergence, asked.steps)
        rows = []
        for name, effort in product(asked.against.split(","), efforts):
            rows.append(bench.row(name, effort))
            print(table(HEAD, rows, 160), flush=True)
    if not asked.no_times:
        share, seconds, memory = times(bench, "Q4_K_M")
        most = sum(sorted(tensor.size_bytes for tensor in full.header.tensors)[-2:]) + 300e6
        print(
            f"Q4_K_M written in {share:.2f} of llama.cpp's {seconds:.1f} s (at most 1.1), with {memory / 1e6:.0f} MB "
            f"of memory (at most the two largest tensors and 300 MB: {most / 1e6:.0f})"
        )


if __name__ == "__main__":
    main()
