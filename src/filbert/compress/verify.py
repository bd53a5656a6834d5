"""Whether a converted model says what its source says: logits of the engine against those of `transformers`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filbert.core.errors import BadInput, BadModelFile
from filbert.core.jobs import Job, Progress
from filbert.core.machine import cores, memory
from filbert.engine.child import Child
from filbert.engine.scorer import ComparedWindow, Scorer
from filbert.models.header import Header
from filbert.models.store import in_place

MOST_PARAMETERS = 2_000_000_000  # up to which nobody need ask for it
MOST_KL = 0.05  # nats; F32, F16 and BF16 of a real model gave 1e-5 to 1e-3
STEP = "comparing with the source"
WAIT_S = 1800.0  # for the library to load weights from a slow disk, and for a prompt
PROMPTS = (
    "The harbour was quiet in the morning. Two boats had come back before sunrise, and their crews were selling fish",
    "def mean(values: list[float]) -> float:\n    if not values:\n        raise ValueError('no values')\n    return",
    "Größe, naïve, 12,345.67 €, 東京は日本の首都です。 Сегодня хорошая погода, не правда ли? 🙂",
    "Question: Which of these is a mammal?\n\nA. trout\nB. otter\nC. sparrow\n\nAnswer:",
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """n_tokens: places that were compared; kl: mean divergence of the source from the file, nats; worst: the largest
    difference of a log-likelihood of a token that comes, nats; n_same: places where both hold the same token the
    likeliest; n_prompts, n_alike: texts, and those that both split into the same tokens."""

    n_tokens: int
    kl: float
    worst: float
    n_same: int
    n_prompts: int
    n_alike: int

    @property
    def told(self) -> str:
        split = ""
        if other := self.n_prompts - self.n_alike:
            split = f" {other} of {self.n_prompts} texts are split into other tokens than the source's."
        return (
            f"Against its source, at {self.n_tokens} tokens: mean KL divergence {self.kl:.2g} nats, "
            f"log-likelihoods that differ by {self.worst:.2g} nats at most, "
            f"the same token the likeliest at {self.n_same}.{split}"
        )


def verified(part: Path, header: Header, stage: Path, work: Path, environment: Mapping[str, str]) -> Job[Agreement]:
    """part: the file that was made; stage: the checked source; work: a folder for the source's logits. Raises
    BadModelFile where they are far apart, BadInput where the source cannot be run here."""
    need_bytes = 4 * header.parameters + header.size_bytes
    if header.kind != "language":
        raise _incomparable(f"It is no language model ({header.kind}).")
    if (free := memory().available) < need_bytes:
        raise _incomparable(f"The source in 32 bits takes {need_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} are free.")
    logits = work / "logits.f32"
    tokens, width = yield from _reference(stage, logits, environment)
    with Scorer(in_place(part)) as scorer:
        ours = [[*scorer.start, *tokens] for tokens in scorer.tokenize(PROMPTS)]
        windows = yield from scorer.compare(tokens, logits, width)
    found = agreement(windows, sum(map(list.__eq__, ours, tokens)))
    if not found.kl <= MOST_KL:  # a NaN is not
        raise BadModelFile(
            "The converted model does not say what its source says, and was not kept.",
            why=found.told,
            do="Look for a GGUF file of its makers; --no-verify keeps this one.",
        )
    return found


def _reference(stage: Path, out: Path, environment: Mapping[str, str]) -> Job[tuple[list[list[int]], int]]:
    config = {
        "folder": str(stage),
        "prompts": PROMPTS,
        "out": str(out),
        "threads": cores(),
        "openmp": "system",
    }
    yield Progress(STEP, 0, len(PROMPTS), "texts")
    child = Child(Path(__file__).with_name("reference_main.py"), config, environment)
    try:
        while "prompt" in (said := child.hear(WAIT_S)):
            yield Progress(STEP, said["prompt"], len(PROMPTS), "texts")
    finally:
        child.kill()
    if "failed" in said:
        why = " ".join(said["failed"].split())[:200].rstrip(".")
        raise _incomparable(f"The library transformers cannot run it: {why}.")
    return said["answer"]["tokens"], said["answer"]["width"]


def _incomparable(why: str) -> BadInput:
    return BadInput("The file cannot be compared with its source.", why=why, do="Leave out --verify.")


def agreement(windows: Sequence[ComparedWindow], n_alike: int) -> Agreement:
    kl = [math.nan if value is None else value for window in windows for value in window.kl]
    differences = [
        abs(ours - theirs) if ours is not None and theirs is not None else math.nan
        for window in windows
        for ours, theirs in zip(window.nll, window.base_nll, strict=True)
    ]
    n_same = sum(sum(window.same) for window in windows)
    return Agreement(len(kl), sum(kl) / len(kl), max(differences), n_same, len(windows), n_alike)
