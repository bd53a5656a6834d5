"""What a request that chooses nothing gets."""

from __future__ import annotations

from pathlib import Path

import filbert
from filbert.core.settings import configured
from filbert.engine.sampling import Sampling


def test_the_catalogues_recommendation_holds_where_a_request_chooses_nothing(stocked: Path) -> None:
    with filbert.load("smollm2:135m", context=256) as model:
        left_out = model.prepare("/v1/completions", {"prompt": "x"}, configured(Sampling, {"max_tokens": 8}), 1).body
        chosen = model.prepare("/v1/completions", {"prompt": "x"}, configured(Sampling, {"top_k": 5}), 1).body
    assert (left_out["temperature"], left_out["top_p"]) == (0.2, 0.9)
    assert not {"temperature", "top_p"} & chosen.keys()
