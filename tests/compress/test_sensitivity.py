"""The table of sensitivities: written whole, read again, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from filbert.compress.sensitivity import Sensitivity, read_sensitivity
from filbert.core.errors import BadInput


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = Sensitivity("swap", "abc", {"blk.0.attn_q.weight": {"Q4_0": 0.25, "Q8_0": 1e-7}})
    table.write(tmp_path / "table.json")
    assert read_sensitivity(tmp_path / "table.json") == table


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"maker": "swap", "identity": "a", "losses": {"x": 3}}', "\x00"])
def test_what_is_no_table_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(BadInput, match="no table of sensitivities"):
        read_sensitivity(tmp_path / "table.json")
