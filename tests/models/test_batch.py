"""How many tokens of a prompt are computed in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

import make_tiny
from filbert.models.batch import BATCH, BATCH_WITH_IMAGES, LEAST_BATCH, PIECE_S, default_batch
from filbert.models.gguf import read_header
from filbert.models.speed import Calibration, assumed, predict


def a_machine(*, prompt: float) -> Calibration:
    """That takes so many times the assumed time for a weight in a prompt."""
    rates = {kind: rate.model_copy(update={"prompt": rate.prompt * prompt}) for kind, rate in assumed().rates.items()}
    return assumed().model_copy(update={"rates": rates})


@pytest.mark.parametrize("prompt", [1e3, 1e4, 3e4, 1e5, 1e6])
def test_a_piece_takes_a_second_at_most_where_that_is_a_good_size(tmp_path: Path, prompt: float) -> None:
    headers = [read_header(make_tiny.dense(tmp_path / "tiny.gguf"))]
    machine = a_machine(prompt=prompt)
    chosen, affordable = default_batch(headers, machine), predict(headers, machine, 4096).prompt * PIECE_S
    assert chosen in (BATCH, BATCH // 2, LEAST_BATCH)
    assert chosen <= affordable or chosen == LEAST_BATCH
    assert chosen == BATCH or 2 * chosen > affordable


def test_the_sizes_are_those_of_a_fast_a_slow_and_an_unmeasured_machine(tmp_path: Path) -> None:
    headers = [read_header(make_tiny.dense(tmp_path / "tiny.gguf"))]
    assert default_batch(headers, None) == BATCH
    assert default_batch(headers, a_machine(prompt=1)) == BATCH
    assert default_batch(headers, a_machine(prompt=1e9)) == LEAST_BATCH


def test_an_image_is_computed_as_a_whole_however_slow_the_machine(tmp_path: Path) -> None:
    model, projector = make_tiny.vision(tmp_path / "eyes.gguf", tmp_path / "mmproj-eyes.gguf")
    assert default_batch([read_header(model), read_header(projector)], a_machine(prompt=1e9)) == BATCH_WITH_IMAGES
