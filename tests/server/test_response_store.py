"""Responses as they are kept: for whom, for how long, and how many."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from filbert.server.response_store import Limits, ResponsesInMemory, ResponsesOnDisk, ResponseStore

LIMITS = Limits(responses=6, size_bytes=100, age_s=60)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[ResponseStore]:
    on_disk = request.param == "disk"
    made = ResponsesOnDisk(f"sqlite:///{tmp_path}/r.db", LIMITS, clock) if on_disk else ResponsesInMemory(LIMITS, clock)
    yield made
    made.close()


def test_a_response_is_there_for_its_owner_until_it_is_deleted(store: ResponseStore) -> None:
    assert store.get("a", "r1") is None and not store.delete("a", "r1")
    assert store.put("a", "r1", b"\x00one")
    assert store.get("a", "r1") == b"\x00one"
    assert store.get("b", "r1") is None and not store.delete("b", "r1")
    assert store.delete("a", "r1") and store.get("a", "r1") is None and not store.delete("a", "r1")


def test_a_response_stays_so_long_and_no_longer(store: ResponseStore, clock: Clock) -> None:
    store.put("a", "r1", b"one")
    clock.now += LIMITS.age_s - 1
    assert store.get("a", "r1")
    clock.now += 1
    assert store.get("a", "r1") is None and not store.delete("a", "r1")
    for i in range(LIMITS.responses):  # there is room for all of them
        assert store.put("a", f"s{i}", b"x")
    assert store.get("a", "s0")


def test_nothing_of_a_response_is_left_once_it_was_swept(store: ResponseStore, clock: Clock) -> None:
    store.sweep()
    store.put("a", "r1", b"one")
    clock.now += LIMITS.age_s / 2
    store.put("a", "r2", b"two")
    clock.now += LIMITS.age_s / 2
    store.sweep()
    clock.now -= LIMITS.age_s  # or it would only be hidden
    assert store.get("a", "r1") is None and store.get("a", "r2")


def test_where_there_are_too_many_the_oldest_of_the_fullest_goes(store: ResponseStore) -> None:
    store.put("b", "first", b"b")
    for i in range(LIMITS.responses):
        assert store.put("a", f"r{i}", b"aa")
    assert store.get("a", "r0") is None and store.get("a", "r1")
    assert store.get("b", "first")


def test_where_they_are_too_large_the_oldest_of_the_fullest_goes(store: ResponseStore) -> None:
    store.put("b", "first", b"b" * 30)
    for i in range(3):
        assert store.put("a", f"r{i}", b"a" * 30)
    assert [bool(store.get("a", f"r{i}")) for i in range(3)] == [False, True, True]
    assert store.get("b", "first")


def test_one_that_is_larger_than_all_may_be_is_not_kept(store: ResponseStore) -> None:
    store.put("b", "first", b"b")
    assert not store.put("a", "r1", b"a" * 101)
    assert store.get("a", "r1") is None and store.get("b", "first")


def test_threads_do_not_hinder_each_other(store: ResponseStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(lambda i: store.put("a", f"r{i}", b"x"), range(40)))
    assert all(kept)
    assert sum(store.get("a", f"r{i}") is not None for i in range(40)) == LIMITS.responses


def test_in_memory_a_thousand_stay_an_hour_within_64_mib(clock: Clock) -> None:
    store = ResponsesInMemory(clock=clock)
    for i in range(1001):
        store.put("a", f"r{i}", b"x")
    assert [bool(store.get("a", f"r{i}")) for i in (0, 1, 1000)] == [False, True, True]
    clock.now += 3600
    assert store.get("a", "r1000") is None
    mib = bytes(1 << 20)
    for i in range(65):
        store.put("a", f"m{i}", mib)
    assert [bool(store.get("a", f"m{i}")) for i in (0, 1, 64)] == [False, True, True]
