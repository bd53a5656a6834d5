"""Models that many ask for, on real workers of tiny models."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from filbert.core.errors import FilbertError, NoRoom, NotReady
from filbert.engine.keep_alive import FOR_EVER
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.pool import Pool
from filbert.models.preset import Preset
from filbert.models.store import StoredModel, in_place
from running import until

SMALL = LoadOptions(context=512, prompt_cache_mib=0, parallel=1)
Make = Callable[..., Pool]


@pytest.fixture
def models(tiny: Path, tmp_path: Path) -> list[StoredModel]:
    """Four files of one kind."""
    return [in_place(Path(shutil.copy(tiny / "dense.gguf", tmp_path / f"{name}.gguf"))) for name in "abcd"]


@pytest.fixture
def make() -> Iterator[Make]:
    pools: list[Pool] = []

    def made(keep_s: float = FOR_EVER, most: int | None = None) -> Pool:
        pools.append(Pool(SMALL, keep_s, most))
        return pools[-1]

    yield made
    for pool in pools:
        pool.close()


def room_for(count: int, model: StoredModel) -> int:
    return count * LoadPlan(model, SMALL).takes("text").total + 1


def loaded(pool: Pool) -> list[str]:
    return [Path(each.model.name).stem for each in pool.loaded()]


def test_a_model_is_loaded_once_and_lent_to_many(models: list[StoredModel], make: Make) -> None:
    pool = make()
    with ThreadPoolExecutor(4) as threads:
        loans = list(threads.map(lambda _: pool.lend(models[0]), range(4)))
    assert len({id(loan.model) for loan in loans}) == 1
    (only,) = pool.loaded()
    assert (only.n_loans, len(only.held)) == (4, 1)
    for loan in loans:
        loan.give_back()
        loan.give_back()
    assert pool.loaded()[0].n_loans == 0
    assert pool.lend_loaded(models[0]) is not None
    assert pool.lend_loaded(models[1]) is None


def test_the_least_recently_used_goes_when_another_needs_room(models: list[StoredModel], make: Make) -> None:
    a, b, c, _ = models
    pool = make(most=room_for(2, a))
    for each in (a, b, a, c):
        pool.lend(each).give_back()
    assert loaded(pool) == ["c", "a"]


def test_what_is_lent_or_pinned_stays_and_who_finds_no_room_is_told(
    models: list[StoredModel], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filbert.engine.pool.NO_ROOM_WAIT_S", 0.2)
    a, b, c, _ = models
    pool = make(most=room_for(2, a))
    pool.lend(a, pinned=True).give_back()
    with pool.lend(b), pytest.raises(NoRoom, match=r"a's text worker|a\.gguf's text worker"):
        pool.lend(c)
    assert sorted(loaded(pool)) == ["a", "b"]
    pool.lend(c).give_back()
    assert loaded(pool) == ["c", "a"]


def test_who_finds_no_room_waits_until_a_model_is_given_back(models: list[StoredModel], make: Make) -> None:
    a, b, *_ = models
    pool = make(most=room_for(1, a))
    first = pool.lend(a)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.lend, b)
        assert until(lambda: len(pool._places) == 2)
        first.give_back()
        waiting.result().give_back()
    assert loaded(pool) == ["b"]


def test_another_worker_of_a_model_waits_for_room_as_well(models: list[StoredModel], make: Make) -> None:
    a, b, *_ = models
    pool = make(most=room_for(2, a))
    first, second = pool.lend(a), pool.lend(b)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(first.model.children.worker, "embedding")  # type: ignore[union-attr]
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        second.give_back()
        assert waiting.result().running
    assert loaded(pool) == ["a"]


def test_a_model_leaves_when_its_time_is_over(models: list[StoredModel], make: Make) -> None:
    pool = make(keep_s=0.05)
    loan = pool.lend(models[0])
    pool.sweep()
    assert loaded(pool) == ["a"]
    loan.give_back()
    assert until(lambda: pool.sweep() or not pool.loaded())
    with pool.lend(models[0], keep_s=FOR_EVER):
        pass
    pool.sweep()
    assert pool.loaded()[0].leaves_s is None
    pool.lend(models[0], keep_s=0).give_back()
    assert not pool.loaded()


def test_how_long_a_model_stays_is_each_owners_own_wish_and_no_longer_than_models_stay_anyway(
    models: list[StoredModel], make: Make
) -> None:
    pool = make(keep_s=300)

    def leaves_s() -> float | None:
        return pool.loaded()[0].leaves_s

    pool.lend(models[0], keep_s=FOR_EVER, owner="ada").give_back()
    assert 290 < (leaves_s() or 0) <= 300
    pool.lend(models[0], owner="bob").give_back()
    pool.lend(models[0], keep_s=0, owner="ada").give_back()
    assert 290 < (leaves_s() or 0) <= 300  # bob's
    with pool.lend(models[0], owner="bob"):
        pool.let_go(models[0].name, "ada")
        pool.let_go(models[0].name, "bob")
        assert loaded(pool) == ["a"]
    assert not pool.loaded()


def test_a_models_preset_says_how_long_it_stays_and_a_request_beats_it(models: list[StoredModel], make: Make) -> None:
    pool = make(keep_s=300)

    def leaves_s(keep_alive: float | None, keep_s: float | None = None, owner: str = "") -> float | None:
        kept = Preset(name=models[0].name, of=models[0].name, keep_alive=keep_alive)
        pool.lend(replace(models[0], preset=kept), keep_s=keep_s, owner=owner).give_back()
        return pool.loaded()[0].leaves_s if pool.loaded() else 0

    assert 3500 < (leaves_s(3600) or 0) <= 3600
    assert leaves_s(-1) is None
    assert 290 < (leaves_s(None) or 0) <= 300  # a change counts from the next use
    assert 50 < (leaves_s(3600, keep_s=60) or 0) <= 60
    assert leaves_s(3600, keep_s=0) == 0
    assert 3500 < (leaves_s(3600, keep_s=FOR_EVER, owner="ada") or 0) <= 3600
    pool.stop(models[0].name)
    assert 50 < (leaves_s(3600, keep_s=60, owner="ada") or 0) <= 60
    pool.stop(models[0].name)
    assert leaves_s(0) == 0


def test_whoever_owns_the_models_has_a_wish_that_counts_for_all(models: list[StoredModel], make: Make) -> None:
    pool = make(keep_s=300)
    pool.lend(models[0], owner="ada").give_back()
    pool.lend(models[0], keep_s=FOR_EVER).give_back()
    pool.lend(models[0], keep_s=0, owner="ada").give_back()
    assert pool.loaded()[0].leaves_s is None
    with pool.lend(models[0], owner="ada"):
        pool.lend(models[0], keep_s=0).give_back()
    assert not pool.loaded()
    pool.lend(models[0], pinned=True).give_back()
    pool.let_go(models[0].name, "")
    assert loaded(pool) == ["a"]


def test_a_model_that_is_stopped_in_use_leaves_when_it_is_given_back(models: list[StoredModel], make: Make) -> None:
    pool = make()
    with pool.lend(models[0], pinned=True):
        assert pool.stop(models[0].name)
        assert loaded(pool) == ["a"]
    assert not pool.loaded()
    assert not pool.stop(models[0].name)


def test_other_load_options_are_a_worker_of_their_own(models: list[StoredModel], make: Make) -> None:
    pool = make()
    wide = SMALL.model_copy(update={"context": 1024})
    with pool.lend(models[0]) as one, pool.lend(models[0], wide) as other:
        assert (one.model.context, other.model.context) == (512, 1024)


def test_the_context_that_was_chosen_is_no_worker_of_its_own_when_somebody_asks_for_it(
    models: list[StoredModel],
) -> None:
    chosen = LoadOptions(prompt_cache_mib=0, parallel=1)
    with closing(Pool(chosen)) as pool, pool.lend(models[0]) as one:
        trained = one.model.header.context_length
        assert one.model.context == trained
        for asked in (trained, 4 * trained):
            with pool.lend(models[0], chosen.choosing(context=asked)) as other:
                assert other.model is one.model
        assert pool.lend_loaded(models[0], chosen.choosing(context=trained // 2)) is None


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(make: Make, tmp_path: Path, tiny: Path) -> None:
    broken = tmp_path / "broken.gguf"
    shutil.copy(tiny / "dense.gguf", broken)
    stored = in_place(broken)
    broken.unlink()
    pool = make()
    with pytest.raises(FilbertError, match="broken"):
        pool.lend(stored)
    assert not pool._places


def test_a_closed_pool_lends_nothing(models: list[StoredModel], make: Make) -> None:
    pool = make()
    worker = pool.lend(models[0]).model.children.workers["text"]
    pool.close()
    assert not worker.running
    with pytest.raises(NotReady, match="stopping"):
        pool.lend(models[1])
