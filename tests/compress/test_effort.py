"""A trained file takes the other's place only if no kind of text got worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import make_tiny
from filbert.compress.effort import Training, better
from filbert.compress.imatrix import Text
from filbert.compress.making import KINDS, Kind, Measured
from filbert.compress.plan import Source, plan
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import stock
from filbert.core.jobs import Job, finish
from filbert.engine.fidelity import Figure
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.models.gguf import check_split
from filbert.models.store import in_place

pytestmark = pytest.mark.torch

TEXT = Text("prose", (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")[:4_000])


def told(*kl: float) -> Measured:
    kinds = [Kind(name, 100, Figure(value, (value, value))) for name, value in zip(KINDS, kl, strict=True)]
    return Measured(kinds, 512)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    full = LoadPlan(in_place(make_tiny.dense(tmp_path / "full.gguf")), LoadOptions(threads=1))
    return Training(full, [TEXT], 3)


def small(training: Training, folder: Path) -> Path:
    source = Source(training.full.stored, check_split(training.full.stored.parts))
    return finish(quantise_job(plan(source, stock("Q4_1")), folder / "small.gguf"))


@pytest.mark.parametrize(
    ("after", "is_kept"),
    [((0.09, 0.09, 0.09, 0.09, 0.1), True), ((0.08, 0.01, 0.01, 0.01, 0.11), False)],
    ids=["no kind is worse", "rare scripts are"],
)
def test_which_file_is_kept(training: Training, tmp_path: Path, after: tuple[float, ...], is_kept: bool) -> None:
    file = small(training, tmp_path)
    was, answers = file.read_bytes(), iter([told(*[0.1] * 5), told(*after)])

    def measure(_: Path) -> Job[Measured]:
        yield from ()
        return next(answers)

    found = finish(better(measure, training)(file))
    assert found == (replace(told(*after), trained_steps=3) if is_kept else told(*[0.1] * 5))
    assert (file.read_bytes() != was) == is_kept
    assert len(file.read_bytes()) == len(was)
    assert not file.with_name("small.gguf.trained").exists()


def test_what_was_trained_already_is_not_trained_again(training: Training, tmp_path: Path) -> None:
    file, steps = small(training, tmp_path), iter([0.1, 0.09, 0.09])

    def measure(_: Path) -> Iterator[object]:
        yield from ()
        return told(*[next(steps)] * 5)

    first = finish(better(measure, training)(file))  # type: ignore[arg-type]
    was = file.read_bytes()
    again = finish(better(measure, training)(file))  # type: ignore[arg-type]
    assert file.read_bytes() == was
    assert again == first
