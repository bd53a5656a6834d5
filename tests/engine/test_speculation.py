"""Which requests go without guesses."""

from __future__ import annotations

from typing import Any

import pytest

from filbert.core.settings import configured
from filbert.engine import speculation
from filbert.engine.sampling import Sampling


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, True),
        ({"temperature": 0.5}, True),
        ({"temperature": 0}, False),
        ({"seed": 0}, False),
        ({"logprobs": 0}, False),
    ],
)
def test_a_seed_temperature_0_and_logprobs_go_without_guesses(given: dict[str, Any], kept: bool) -> None:
    assert speculation.keeps(configured(Sampling, given)) is kept
