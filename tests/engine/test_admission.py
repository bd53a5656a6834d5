from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert import Model, Sampling
from filbert.core.errors import Busy
from filbert.engine.admission import Admission, Place

TOKENS, SLOTS = 100, 3
# What callers do: ask for so many tokens, or give back the n-th place of those they hold or wait for.
steps = st.lists(st.tuples(st.just("ask"), st.integers(1, 130)) | st.tuples(st.just("give back"), st.integers(0, 9)))


def reached(place: Place) -> bool:
    return place.reached.done() and not place.reached.cancelled()


@given(steps)
def test_what_runs_never_takes_more_than_there_is(story: list[tuple[str, int]]) -> None:
    admission, held = Admission(TOKENS, SLOTS), list[Place]()
    for act, number in story:
        if act == "ask":
            held.append(admission.ask(number))
        elif held:
            held.pop(number % len(held)).give_back()
        running = [place for place in held if reached(place)]
        assert len(running) <= SLOTS
        assert sum(place.tokens for place in running) <= TOKENS


@given(steps)
def test_the_first_to_come_are_the_first_served_and_all_are(story: list[tuple[str, int]]) -> None:
    admission, held = Admission(TOKENS, SLOTS), list[Place]()
    for act, number in story:
        if act == "ask":
            held.append(admission.ask(number))
        elif held:
            held.pop(number % len(held)).give_back()
        served = [reached(place) for place in held]
        assert served == sorted(served, reverse=True), "somebody overtook"
        assert not held or served[0], "nobody is served"
    while held:
        assert reached(held[0])
        held.pop(0).give_back()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), min_size=1))
def test_owners_take_turns_and_none_overtakes_itself(asked: list[tuple[str, int]]) -> None:
    """One at a time: the n-th of an owner is served in the n-th round."""
    admission = Admission(TOKENS, 1)
    first = admission.ask(TOKENS, "first")
    waiting = [admission.ask(tokens, owner) for owner, tokens in asked]
    served: list[Place] = []
    first.give_back()
    while len(served) < len(waiting):
        (running,) = [place for place in waiting if reached(place) and place not in served]
        served.append(running)
        running.give_back()
    rounds = [sum(other.owner == place.owner for other in served[:at]) for at, place in enumerate(served)]
    assert rounds == sorted(rounds)
    for owner in "abc":
        assert [place for place in served if place.owner == owner] == [p for p in waiting if p.owner == owner]


def test_who_comes_when_enough_wait_is_told_when_to_come_back() -> None:
    admission = Admission(TOKENS, 1)
    held = [admission.ask(1, most_waiting=2) for _ in range(3)]
    with pytest.raises(Busy) as told:
        admission.ask(1, most_waiting=2)
    assert 1 <= told.value.retry_after_s <= 60
    assert admission.counts == (1, 2)
    held[1].give_back()
    assert not reached(admission.ask(1, most_waiting=2))


def test_a_demand_for_more_than_there_is_gets_all_of_it() -> None:
    admission = Admission(TOKENS, SLOTS)
    first, second = admission.ask(10 * TOKENS), admission.ask(1)
    assert reached(first)
    assert not reached(second)
    first.give_back()
    assert reached(second)


def test_a_place_given_back_by_another_thread_ends_the_wait() -> None:
    admission = Admission(TOKENS, SLOTS)
    admission.ask(TOKENS)
    place = admission.ask(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.wait)
        place.give_back()
        assert waiting.result(60) is False


def test_a_place_cancelled_from_outside_blocks_nobody_behind_it() -> None:
    """As the server's event loop does when a client leaves."""
    admission = Admission(TOKENS, SLOTS)
    first, second, third = (admission.ask(TOKENS) for _ in range(3))
    second.reached.cancel()
    first.give_back()
    assert reached(third)
    second.give_back()
    assert reached(third)


def test_giving_back_twice_frees_once() -> None:
    admission = Admission(TOKENS, 1)
    first, second, third = (admission.ask(1) for _ in range(3))
    first.give_back()
    first.give_back()
    assert reached(second)
    assert not reached(third)


def test_threads_that_ask_and_cancel_at_once_leave_it_whole() -> None:
    admission = Admission(TOKENS, SLOTS)

    def come_and_go(seed: int) -> None:
        for number in range(300):
            place = admission.ask((seed * 31 + number * 7) % 60 + 1)
            if number % 3 == 0:
                place.reached.cancel()
            else:
                place.wait()
            place.give_back()

    threads = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert reached(admission.ask(TOKENS))


def test_requests_of_three_times_the_context_together_all_end_well(load: Callable[..., Model]) -> None:
    """The engine would end all of them when its cache runs full (llama.cpp#23652)."""
    model: Model = load("dense", context=512)

    def ask(number: int) -> int:
        sampling = Sampling(max_tokens=100, grammar='root ::= "x" root', seed=number)
        return model.complete(f"{number} " * 15, sampling).reply().usage.completion_tokens

    with ThreadPoolExecutor(12) as pool:
        tokens = list(pool.map(ask, range(12)))
    assert len(tokens) == 12
    assert all(0 < count <= 100 for count in tokens)
