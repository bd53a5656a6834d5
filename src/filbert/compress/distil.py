"""A compressed file trained to predict what its source does, at the same bytes: see `distil_main.py`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from filbert.compress.extra import TO_TRAIN, need_extra
from filbert.compress.gradient import need_memory
from filbert.core.files import alone, move_whole, need_room
from filbert.core.jobs import Job, Progress
from filbert.engine.child import Child, answer
from filbert.engine.load_plan import LoadPlan

RATES = {"gain": 1e-4, "scale": 1.5e-4, "minimum": 1.5e-3}  # docs/decisions/015-effort.md
WARM = 10  # steps until the rates are whole
CLIP = 2.0  # times the usual length of a gradient
BYTES_A_WEIGHT = 30  # of memory: codes, weight, gradient and what made it, and the teacher's, in 32 bits
STEP = "distil"


def distil_job(
    full: LoadPlan,
    file: Path,
    sha256: str,
    target: Path,
    windows: Sequence[Sequence[int]],
    steps: int,
    kept: Path,
    *,
    kept_each_s: float = 60,
) -> Job[None]:
    """Write the file, whose hash is sha256, trained that many steps, a window a step. kept: a folder of what the source
    says of the windows, which serves files of other sizes too. After a kill the same goes on from where it was. Raises
    BadInput without torch and for an architecture that it does not know; DiskFull."""
    need_extra("A better file of the same size", TO_TRAIN)
    need_memory(full, BYTES_A_WEIGHT)
    part, state = (target.with_name(f".{target.name}{ending}") for ending in (".part", ".part.pt"))
    asked = [full.stored.sha256, sha256, steps, RATES, WARM, CLIP, [list(window) for window in windows]]
    seen = hashlib.sha256(json.dumps([full.stored.sha256, asked[-1]]).encode()).hexdigest()
    folder = kept / seen[:16]
    with alone(target):
        folder.mkdir(parents=True, exist_ok=True)
        need_room(target.parent, file.stat().st_size)
        shutil.copyfile(file, part)
        config = {
            "threads": full.threads,
            "openmp": full.options.openmp,
            "parts": [str(path) for path in full.stored.parts],
            "target": str(part),
            "state": str(state),
            "folder": str(folder),
            "windows": asked[-1],
            "steps": steps,
            "warm": WARM,
            "rates": RATES,
            "clip": CLIP,
            "identity": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
            "kept_each_s": kept_each_s,
        }
        child = Child(Path(__file__).with_name("distil_main.py"), config)
        try:
            while "step" in (said := child.hear(full.options.stall_s)):
                yield Progress(STEP, said["step"], said["of"], "steps")
        finally:
            child.kill()
        answer(said)
        move_whole(part, target)
        state.unlink(missing_ok=True)
