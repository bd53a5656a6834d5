"""The knapsack of types: what fits, and loses least."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.compress.allocate import Choice, allocated, curve, hull
from filbert.core.errors import BadInput

CHOICES = st.lists(st.builds(Choice, st.just("t"), st.integers(1, 60), st.floats(0, 10)), min_size=1, max_size=4)


@given(st.lists(CHOICES, min_size=1, max_size=5), st.integers(0, 200))
def test_what_is_chosen_fits_and_no_single_change_is_better(tensors: list[list[Choice]], more: int) -> None:
    smallest = sum(min(choice.size_bytes for choice in each) for each in tensors)
    room = smallest + more
    found = allocated(tensors, room)
    assert found.size_bytes <= room
    assert found.size_bytes == sum(each[i].size_bytes for each, i in zip(tensors, found.chosen, strict=True))
    assert found.loss == pytest.approx(sum(each[i].loss for each, i in zip(tensors, found.chosen, strict=True)))
    for tensor, each in enumerate(tensors):
        now = each[found.chosen[tensor]]
        for choice in each:
            if found.size_bytes - now.size_bytes + choice.size_bytes <= room:
                assert choice.loss >= now.loss - 1e-9


@given(st.lists(CHOICES, min_size=1, max_size=4), st.integers(0, 200))
def test_it_is_near_the_best_of_all(tensors: list[list[Choice]], more: int) -> None:
    """No pair of changes is left that saves; of two tensors that is the best of all."""
    room = sum(min(choice.size_bytes for choice in each) for each in tensors) + more
    fitting = [
        sum(choice.loss for choice in some)
        for some in itertools.product(*tensors)
        if sum(choice.size_bytes for choice in some) <= room
    ]
    found = allocated(tensors, room).loss
    assert found >= min(fitting) - 1e-9
    if len(tensors) <= 2:
        assert found == pytest.approx(min(fitting))


@given(st.lists(CHOICES, min_size=1, max_size=6))
def test_the_curve_is_convex_and_each_point_the_best_of_its_size(tensors: list[list[Choice]]) -> None:
    points = curve(tensors)
    assert points[-1].loss == pytest.approx(sum(min(choice.loss for choice in each) for each in tensors))
    for one, other in itertools.pairwise(points):
        assert one.size_bytes <= other.size_bytes
        assert one.loss >= other.loss - 1e-9
    for point in points:
        assert allocated(tensors, point.size_bytes).loss <= point.loss + 1e-9


def test_a_hull_leaves_out_what_lies_above_it() -> None:
    choices = [
        Choice("a", 10, 5.0),
        Choice("b", 20, 4.9),
        Choice("c", 30, 1.0),
        Choice("d", 30, 2.0),
        Choice("e", 40, 1.5),
    ]
    assert [choices[i].type for i in hull(choices)] == ["a", "c"]


def test_less_room_than_the_smallest_is_a_sentence() -> None:
    with pytest.raises(BadInput, match="The smallest takes 30 bytes"):
        allocated([[Choice("a", 10, 1.0), Choice("b", 20, 0.5)], [Choice("a", 20, 1.0)]], 29)
