"""`filbert list` with 200 models: half imported from another program, half in the store.

    python benchmarks/habits/list.py [ROUNDS]

Target: 0.3 s. The files are sparse: a list reads the store's records, never a model.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filbert.models.catalogue import entries
from filbert.models.manifest import Kept, Linked, Manifest, write_manifest
from filbert.report.table import table

FILBERT = Path(sys.executable).with_name("filbert")
MODELS = 200
SIZE_BYTES = 4_000_000_000
NOW = "2026-11-24T08:00:00+00:00"


def main(rounds: int = 9) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FILBERT_HOME"] = folder
        for number in range(MODELS):
            install(number, Path(folder))
        table_s, json_s, version_s = (timed(rounds, *words) for words in (["list"], ["list", "--json"], ["--version"]))
    rows = [
        ("filbert list", f"{table_s * 1e3:.0f}", f"{table_s / 0.3:.2f}"),
        ("filbert list --json", f"{json_s * 1e3:.0f}", f"{json_s / 0.3:.2f}"),
        ("filbert --version, for comparison", f"{version_s * 1e3:.0f}", ""),
    ]
    print(f"{MODELS} models, {len(entries())} in the catalogue, load {os.getloadavg()[0]:.1f} (target 300 ms)")
    print(table(("", "ms", "÷ target"), rows))


def install(number: int, folder: Path) -> None:
    sha256 = f"{number:064x}"
    if number % 2:
        path = folder / f"elsewhere/{number}.gguf"
        sparse(path)
        file: Kept | Linked = Linked(
            role="model", path=path, size_bytes=SIZE_BYTES, changed_ns=path.stat().st_mtime_ns, sha256=sha256
        )
    else:
        file = Kept(role="model", name="x.gguf", size_bytes=SIZE_BYTES, sha256=sha256, folder=sha256)
        sparse(file.path)
    name = f"family{number}:7b-q4_k_m"
    write_manifest(Manifest(name=name, source="", revision="", licence="", pulled=NOW, files=(file,)))


def sparse(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)


def timed(rounds: int, *words: str) -> float:
    """Seconds, the median of the rounds."""
    return statistics.median(once(*words) for _ in range(rounds))


def once(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([FILBERT, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
