"""Better files at the same bytes: re-scaled before they are rounded, trained afterwards; each measured beside what was,
and kept where no kind of text got worse."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from filbert.compress.distil import distil_job
from filbert.compress.gradient import windows_of
from filbert.compress.imatrix import Text
from filbert.compress.making import Measured
from filbert.compress.measure import Measure, measure_job
from filbert.compress.plan import Plan
from filbert.compress.prepare import folder_of
from filbert.compress.search import tried
from filbert.core.files import move_whole, sha256_of, write_whole
from filbert.core.jobs import Job
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan

STEPS = 400  # of training, by a high effort
WINDOW, WINDOWS = 512, 200  # tokens, and windows of them: a step takes one
OPERATIONS = 8  # a weight and token: forward of both, backward of one
OPERATIONS_A_CORE = 3e10  # a second, in 32 bits, of a processor with AVX2


@dataclass(frozen=True)
class Training:
    """texts: what it is trained on."""

    full: LoadPlan
    texts: Sequence[Text]
    steps: int

    @property
    def minutes(self) -> float:
        """About, when nothing else runs."""
        count = sum(header.parameters for header in self.full.headers)
        return self.steps * WINDOW * count * OPERATIONS / OPERATIONS_A_CORE / self.full.threads / 60


def gains_job(equalised: Plan, plain: Plan, load: LoadOptions) -> Job[bool]:
    """Whether no kind of text is further from the source by the first than by the second."""
    after = yield from tried(equalised, partial(measure_job, equalised, load=load))
    before = yield from tried(plain, partial(measure_job, plain, load=load))
    return not is_worse(after, before)


def is_worse(now: Measured, before: Measured) -> bool:
    """On some kind of text."""
    return any(ours.kl.value > theirs.kl.value for ours, theirs in zip(now.kinds, before.kinds, strict=True))


def better(measure: Measure, training: Training) -> Measure:
    """What measures a file, and puts a trained one into its place if that is better on each kind of text."""
    return partial(_better_job, measure, training)


def _better_job(measure: Measure, training: Training, file: Path) -> Job[Measured]:
    trained, story = (file.with_name(f"{file.name}.{ending}") for ending in ("trained", "trained.sha256"))
    before = yield from measure(file)
    if story.exists() and story.read_text("ascii") == sha256_of(file):  # an earlier run got as far as this
        return replace(before, trained_steps=training.steps)
    if not trained.exists():
        windows = windows_of(training.full, training.texts, WINDOWS, WINDOW)
        teacher = _teacher(training.full)
        yield from distil_job(training.full, file, sha256_of(file), trained, windows, training.steps, teacher)
    after = yield from measure(trained)
    if is_worse(after, before):
        trained.unlink()
        return before
    with write_whole(story) as written:
        written.write(sha256_of(trained).encode())
    move_whole(trained, file)
    return replace(after, trained_steps=training.steps)


def forget_teacher(full: LoadPlan) -> None:
    """Remove what the full model says of the training's windows, which serves all files that are trained in one go."""
    shutil.rmtree(_teacher(full), ignore_errors=True)


def _teacher(full: LoadPlan) -> Path:
    return folder_of(full.stored) / "teacher"
