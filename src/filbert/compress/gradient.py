"""Sensitivities by gradients, all at once: needs torch, and an architecture that `network.py` covers.

Before any is used, the network's log-likelihoods are compared with the engine's: where they are not the same, neither
would its gradients be.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from filbert.compress.extra import TO_TRAIN, need_extra
from filbert.compress.imatrix import ImportanceMatrix, Text
from filbert.compress.plan import Source
from filbert.compress.recipe import fitting, quantisable
from filbert.compress.sensitivity import Sensitivity
from filbert.core.errors import BadInput
from filbert.core.files import alone, need_room, size
from filbert.core.jobs import Job, Progress
from filbert.core.machine import memory
from filbert.engine.child import Child, answer
from filbert.engine.load_plan import LoadPlan
from filbert.engine.quantiser import Quantiser, Rounding
from filbert.engine.scorer import Scorer
from filbert.models.gguf import check_split
from filbert.models.gguf_write import size_of

MAKER = "gradient"
WINDOW, WINDOWS = 256, 24
SETS = 8  # of gradients: with fewer a loss is less certain than 2 %, with more the disk fills
GRADIENT_BYTES = 2
BYTES_A_WEIGHT = 10  # of memory: itself and its gradient in 32 bits, and what a step needs besides
CHECKED = 128  # tokens whose log-likelihoods are compared
CLOSE = 0.05  # nats a token, the mean of how far they are apart; the engine's keys and values have 16 bits
STEP = "gradients"


def gradient_job(
    full: LoadPlan, importance: ImportanceMatrix | None, types: Sequence[str], windows: Sequence[list[int]], kept: Path
) -> Job[Sensitivity]:
    """Sensitivities to these types of all that can be quantised, from the tokens of these windows. kept: a folder for
    what is between, which is gone in the end; who asks the same again after a kill goes on from there. Raises BadInput
    without torch, for an architecture that it does not know, and where it and the engine disagree."""
    need_extra("A sensitivity by gradients", TO_TRAIN)
    need_memory(full, BYTES_A_WEIGHT)
    source = Source(full.stored, check_split(full.stored.parts))
    roundings = list(_roundings(source, importance, types))
    asked = [full.stored.sha256, importance.sha256 if importance else "", list(types), list(windows)]
    identity = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    with alone(kept):
        kept.mkdir(parents=True, exist_ok=True)
        matrices = {each.tensor.name: each.tensor for each in roundings}
        gradients = SETS * GRADIENT_BYTES * sum(each.count for each in matrices.values())
        need_room(kept, gradients + sum(size_of(each.tensor.shape, each.to) for each in roundings))
        candidates = yield from _candidates(roundings, kept / "candidates", full.threads)
        config = {
            "threads": full.threads,
            "openmp": full.options.openmp,
            "parts": [str(part) for part in full.stored.parts],
            "names": list(matrices),
            "sets": [windows[number::SETS] for number in range(min(SETS, len(windows)))],
            "candidates": candidates,
            "folder": str(kept),
            "identity": identity,
            "checked": CHECKED,
        }
        losses = yield from _measured(full, config, windows[0][:CHECKED])
        shutil.rmtree(kept)
    return Sensitivity(MAKER, identity, losses)


def need_memory(full: LoadPlan, bytes_a_weight: int) -> None:
    """Raises BadInput where so much is not free."""
    needed, free = bytes_a_weight * sum(header.parameters for header in full.headers), memory().available
    if needed > free:
        raise BadInput(
            f"There is no memory to compute gradients of {full.stored.name}.",
            why=f"They take {size(needed)}, and {size(free)} are free.",
            do="Close other programs, or do without: `--sensitivity swap`, `--effort none`.",
        )


def windows_of(full: LoadPlan, texts: Sequence[Text], n: int = WINDOWS, window: int = WINDOW) -> list[list[int]]:
    """So many windows of tokens at most, from everywhere in the texts."""
    with Scorer(full.stored, threads=full.threads, memory_limit=full.scorer_limit()) as scorer:
        found = [each for of in scorer.as_windows([(text.text, text.special) for text in texts], window) for each in of]
    if not found:
        raise BadInput(f"The texts have less than {window} tokens each.", do="Give longer ones.")
    order = np.random.default_rng(0).permutation(len(found))[:n]
    return [found[i] for i in order]


def _roundings(source: Source, importance: ImportanceMatrix | None, types: Sequence[str]) -> Iterator[Rounding]:
    for tensor, file in source.tensors.values():
        if not quantisable(tensor, source.headers[0].architecture):
            continue
        used = importance.of(tensor) if importance else None
        for kind in fitting(types, tensor.shape[0], is_covered=used is not None):
            yield Rounding(tensor, file, kind, used)


def _candidates(roundings: Sequence[Rounding], file: Path, threads: int) -> Job[list[dict[str, Any]]]:
    """What each tensor becomes in each type, one after the other in a file."""
    total = sum(each.tensor.count for each in roundings)
    file.touch()
    found, done, at = [], 0, 0
    with Quantiser(threads=threads) as quantiser:
        for each in roundings:
            quantiser.ask(each, file, at)
            yield from quantiser.written(each, done, total)
            found.append({"name": each.tensor.name, "type": each.to, "offset": at})
            done, at = done + each.tensor.count, at + size_of(each.tensor.shape, each.to)
    return [{"file": str(file)} | each for each in found]


def _measured(full: LoadPlan, config: dict[str, Any], tokens: Sequence[int]) -> Job[dict[str, dict[str, float]]]:
    child = Child(Path(__file__).with_name("gradient_main.py"), config)
    try:
        _need_same(full, tokens, answer(child.hear(full.options.stall_s)))
        while "done" in (said := child.hear(full.options.stall_s)):
            yield Progress(said["step"], said["done"], said["of"], said["unit"])
    finally:
        child.kill()
    found: dict[str, dict[str, float]] = answer(said)
    return found


def _need_same(full: LoadPlan, tokens: Sequence[int], theirs: Sequence[float]) -> None:
    """theirs: log-likelihood of each token but the first."""
    with Scorer(full.stored, threads=full.threads, memory_limit=full.scorer_limit()) as scorer:
        ours = [each.loglikelihood for each in scorer.predict([tokens], 1)[0]]
    apart = float(np.abs(np.array(ours[: len(theirs)], np.float64) - np.array(theirs)).mean())
    if not apart <= CLOSE:
        raise BadInput(
            f"Gradients of {full.stored.name} cannot be computed.",
            why=f"Torch's log-likelihoods are {apart:.2f} nats a token from the engine's.",
            do="Add `--sensitivity swap`, which the engine measures of every architecture.",
        )
