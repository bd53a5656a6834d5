"""Which devices of the engine count as graphics cards."""

from __future__ import annotations

import pytest

from filbert.engine.cards import chosen


@pytest.mark.parametrize(
    ("kinds", "counted"),
    [
        (["cpu", "gpu", "inside", "gpu"], ["1", "3"]),
        (["cpu", "inside"], ["1"]),
        (["cpu", "blas"], []),
        ([], []),
    ],
)
def test_cards_of_their_own_come_first_and_what_speeds_up_the_processor_is_none(
    kinds: list[str], counted: list[str]
) -> None:
    devices = [{"type": kind, "name": str(number)} for number, kind in enumerate(kinds)]
    assert [card["name"] for card in chosen(devices, "gpu", "inside")] == counted
