"""How much the columns of a model's matrices are used: summed by a child of its own, into a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from filbert.core.errors import EngineMissing
from filbert.core.jobs import Job, Progress
from filbert.core.machine import unsupported_by_engine
from filbert.engine.child import SLOWEST_TOKENIZER, Child, answer, load_wait_s
from filbert.engine.load_plan import LoadPlan

STEP = "imatrix"


def collected(
    plan: LoadPlan,
    names: Sequence[str],
    texts: Sequence[tuple[str, bool]],
    window: int,
    datasets: Sequence[str],
    identity: str,
    target: Path,
    memory_limit: int,
    kept_each_s: float,
) -> Job[None]:
    """Write an importance matrix (llama.cpp's GGUF) of the matrices that `names` has. texts: one after the other, each
    with whether its special tokens are read as such; datasets: what they are called in the file; identity: what a file
    of an earlier run must say, so that this one goes on from there; kept_each_s: seconds until it is written again as
    far as it goes. Raises EngineMissing, BadModelFile, BadInput for a text of less than one window."""
    if reason := unsupported_by_engine():
        raise EngineMissing(reason, do="Compress on another machine.")
    config = {
        "path": str(plan.stored.path),
        "threads": plan.threads,
        "openmp": plan.options.openmp,
        "memory_limit": memory_limit,
        "names": list(names),
        "texts": list(texts),
        "window": window,
        "datasets": list(datasets),
        "identity": identity,
        "target": str(target),
        "kept_each_s": kept_each_s,
    }
    child = Child("importance_main.py", config)
    wait_s = load_wait_s(plan.stored.size_bytes, plan.options.stall_s)
    wait_s += sum(len(text) for text, _ in texts) / SLOWEST_TOKENIZER
    try:
        while "window" in (said := child.hear(wait_s)):
            yield Progress(STEP, said["window"], said["of"], "windows")
    finally:
        child.kill()
    answer(said)
