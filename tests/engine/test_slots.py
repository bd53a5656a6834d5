"""Whose slot is whose, and what is sent to the engine of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from filbert.engine.admission import NOBODY, Admission, Place
from filbert.engine.slots import MOST_MARKS, Marks, Slots, marks_of

ONE, OTHER = (1, 2, 3), (1, 7, 8)


def answered(slots: Slots, owner: str, marks: Marks, begun: bool = True) -> dict[str, Any]:
    slot, told = slots.take(owner, marks)
    slots.give_back(slot, owner if begun else None)
    return told


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts], **more}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans())))
def test_nobody_builds_upon_what_another_left(story: list[tuple[str, int, bool]]) -> None:
    """holds: whose prompts a slot of the engine may hold, which drops them when an answer begins and may build upon."""
    slots, holds = Slots(2), dict[int, set[str]]()
    for owner, first, begun in story:
        told = answered(slots, owner, (first, 9), begun)
        held = holds.setdefault(told["id_slot"], set())
        assert not told["cache_prompt"] or held <= {owner}
        if begun:
            held.clear()
            held.add(owner)


def test_a_conversation_goes_on_where_it_was_and_another_takes_a_slot_of_its_own() -> None:
    slots = Slots(3)
    first, second = answered(slots, "a", ONE), answered(slots, "a", OTHER)
    assert first["id_slot"] != second["id_slot"]
    for _ in range(2):
        assert answered(slots, "a", (*ONE, 4)) == {"id_slot": first["id_slot"], "cache_prompt": True}
        assert answered(slots, "b", ONE)["id_slot"] not in (first["id_slot"], second["id_slot"])
        assert answered(slots, "a", (*OTHER, 4)) == {"id_slot": second["id_slot"], "cache_prompt": True}


def test_an_answer_that_never_began_leaves_a_slot_that_nobody_builds_upon() -> None:
    slots = Slots(1)
    answered(slots, "a", ONE)
    assert not answered(slots, "b", ONE, begun=False)["cache_prompt"]
    assert not answered(slots, "b", ONE)["cache_prompt"]
    assert answered(slots, "b", ONE)["cache_prompt"]
    assert not answered(slots, "a", ONE)["cache_prompt"]


def test_a_prompt_that_goes_on_begins_with_the_same_marks() -> None:
    before = marks_of(chat("Hi", "x" * 1000))
    assert marks_of(chat("Hi", "x" * 1000, "And?"))[: len(before)] == before
    assert marks_of(chat("Ho", "x" * 1000))[0] != before[0]
    assert marks_of(chat("Hi", tools=[{"name": "f"}]))[0] != before[0]
    assert marks_of({"prompt": [1, 2, 3]})[:2] == marks_of({"prompt": [1, 2]})
    assert len(marks_of({"prompt": "\ud800" * 10**6})) == MOST_MARKS
    assert marks_of({"prompt": ""}) == ()


def test_for_one_owner_the_engine_remembers_as_it_likes_and_a_second_one_waits_until_nobody_answers() -> None:
    admission = Admission(100, 2, "once_two_ask")
    admission.ask(1, NOBODY).give_back()  # as a model is warmed up
    alone = admission.ask(1, "a")
    other, behind = admission.ask(1, "b"), admission.ask(1, "a")
    assert (alone.engine_fields, admission.apart) == ({}, False)
    assert not is_reached(other) and not is_reached(behind)
    alone.give_back()
    assert admission.apart
    assert is_reached(other) and is_reached(behind)
    assert {other.engine_fields["id_slot"], behind.engine_fields["id_slot"]} == {0, 1}
    assert not other.engine_fields["cache_prompt"]


def test_each_worker_of_a_model_has_slots_of_its_own() -> None:
    admission = Admission(100, 1, "always")
    for owner, worker, builds in (
        ("a", "text", False),
        ("b", "plain", False),
        ("a", "text", True),
        ("a", "plain", False),
        ("b", "text", False),
    ):
        place = admission.ask(1, owner, worker=worker)
        assert place.engine_fields["cache_prompt"] is builds, (owner, worker)
        place.begun = True
        place.give_back()


def is_reached(place: Place) -> bool:
    return place.reached.done() and not place.reached.cancelled()
