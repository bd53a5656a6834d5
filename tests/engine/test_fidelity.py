"""What compression cost: a model against itself, against numpy, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import filbert
import make_tiny
from filbert.core.errors import BadInput, ContextOverflow, EngineError, NoRoom
from filbert.core.jobs import Progress, finish
from filbert.core.machine import Memory
from filbert.engine.budget import Budget
from filbert.engine.fidelity import Fidelity, fidelities_job, fidelity_job
from filbert.engine.likelihood import side_by_side
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import SCORING
from filbert.engine.model import Model
from filbert.engine.side_by_side import SideBySide
from filbert.models.fit import check_together
from filbert.models.store import in_place
from requantise import coarser

TESTS = Path(__file__).parents[1]
TEXT = (TESTS / "data/war-and-peace.txt").read_text("utf-8")[:2000]
CLOSE = 2e-4
ROUNDED = 5e-3  # llama-perplexity keeps the base's lists in 16 bits
ROWS = arrays(np.float32, (3, 7), elements=st.floats(-50, 50, width=32))


def opened(path: Path) -> Model:
    return Model(in_place(path), LoadOptions(threads=1))


def found(path: Path, base: Path, text: str = TEXT, window: int = 64, *, every_token: bool = False) -> Fidelity:
    with opened(path) as model, opened(base) as full:
        return finish(fidelity_job(model, full, text, window, "filbert fidelity …", every_token=every_token))


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return make_tiny.dense(tmp_path / "full.gguf")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_tiny.quantised(tmp_path / "small.gguf", "Q4_0")


def test_several_texts_are_told_together_and_each(full: Path, small: Path) -> None:
    texts = [(TEXT, False), ("<|im_start|>" * 600, True), ("<|im_start|>" * 100, False)]
    with opened(small) as model, opened(full) as base:
        together, *each = finish(fidelities_job(model, base, texts, 64, 3, "filbert …"))
    assert [one.n_windows for one in (together, *each)] == [9, 3, 3, 3]
    assert together.n == sum(one.n for one in each) == 9 * 63
    assert together.value == pytest.approx(sum(one.value for one in each) / 3)
    assert each[1].value != pytest.approx(each[2].value)  # one token many times, or its letters


def damaged(path: Path, token: str) -> Path:
    """One whose numbers are NaN after this token."""
    parts = make_tiny.dense_parts()
    parts.tensors["output.weight"] = parts.tensors["token_embd.weight"].copy()
    parts.tensors["token_embd.weight"][parts.metadata["tokenizer.ggml.tokens"].index(token)] = float("nan")
    make_tiny.write(path, parts)
    return path


# Laws


@given(logits=ROWS, base=ROWS)
def test_the_divergence_is_that_of_the_definition_and_never_negative(logits: np.ndarray, base: np.ndarray) -> None:
    targets = np.array([0, 3, 6], np.int32)
    got = side_by_side(logits, base, targets)
    q, p = (np.exp(np.float64(each)) / np.exp(np.float64(each)).sum(axis=1, keepdims=True) for each in (logits, base))
    assert got.kl == pytest.approx((p * np.log(p / q)).sum(axis=1), abs=1e-9)
    assert got.kl.min() >= 0
    assert got.nll == pytest.approx(-np.log(q[[0, 1, 2], targets]))
    assert got.base_nll == pytest.approx(-np.log(p[[0, 1, 2], targets]))
    assert list(got.same) == list(logits.argmax(axis=1) == base.argmax(axis=1))


@given(ROWS)
def test_a_distribution_does_not_diverge_from_itself_nor_from_itself_shifted(logits: np.ndarray) -> None:
    assert not side_by_side(logits, logits, np.zeros(3, np.int32)).kl.any()
    assert side_by_side(logits + 2, logits, np.zeros(3, np.int32)).kl == pytest.approx(0, abs=1e-5)


def test_a_nan_stays_one_and_a_token_that_is_impossible_for_the_base_costs_nothing() -> None:
    rows = np.array([[0, 1, 2], [0, np.nan, 2], [0, 1, 2]], np.float32)
    base = np.array([[0, 1, 2], [0, 1, 2], [-np.inf, 1, 2]], np.float32)
    targets = np.zeros(3, np.int32)
    one, other = side_by_side(rows, base, targets), side_by_side(base, rows, targets)
    assert np.isnan([one.kl[1], other.kl[1]]).all()
    assert 0 < one.kl[2] < 1
    assert other.kl[2] == math.inf


# Two models


def test_a_model_is_faithful_to_itself(full: Path) -> None:
    told: list[Progress] = []
    with opened(full) as model, opened(full) as same:
        got = finish(fidelity_job(model, same, TEXT, 64, "again"), told.append)
        assert got.perplexity.value == pytest.approx(model.perplexity(TEXT, 64).value, rel=1e-6)
    assert (got.value, got.interval, got.largest) == (0, (0, 0), 0)
    assert (got.same_top.value, got.same_top.interval) == (1, (1, 1))
    assert (got.perplexity_ratio.value, got.perplexity_ratio.interval) == (1, (1, 1))
    assert got.n == got.n_windows * 31
    assert [(each.done, each.total) for each in told] == [(i + 1, got.n_windows) for i in range(got.n_windows)]


def test_a_quantised_model_is_not_and_each_figure_lies_within_its_interval(full: Path, small: Path) -> None:
    got = found(small, full)
    assert 0 < got.median.value < got.percentile_99.value <= got.largest
    assert 0.2 < got.same_top.value < 1
    assert got.perplexity_ratio.value == pytest.approx(got.perplexity.value / got.base_perplexity.value)
    assert got.interval[0] < got.value < got.interval[1]
    for name in ("median", "percentile_99", "same_top", "perplexity", "base_perplexity", "perplexity_ratio"):
        figure = getattr(got, name)
        assert figure.interval[0] <= figure.value <= figure.interval[1], name
        assert figure.interval[0] < figure.interval[1], name


def test_every_token_can_be_scored_and_the_second_half_is_a_part_of_it(full: Path, small: Path) -> None:
    half, whole = found(small, full), found(small, full, every_token=True)
    assert half.n == half.n_windows * 31
    assert whole.n == half.n_windows * 63
    assert whole.value * whole.n > half.value * half.n > 0  # a sum of more that is never negative
    assert "on every token of a text" in whole.against


def test_it_says_both_files_the_text_and_how_to_make_it_again(full: Path, small: Path) -> None:
    got = filbert.fidelity(small, full, TEXT, window=64, threads=1)
    assert (got.made_by.model_sha256, got.base_sha256) == (in_place(small).sha256, in_place(full).sha256)
    assert got.made_by.command == f"filbert fidelity {small} --base {full} --window 64 --text FILE"
    for part in (got.made_by.model_sha256[:12], got.base_sha256[:12], "same likeliest token", "ratio", "99 %"):
        assert part in str(got)
    told = json.loads(json.dumps(got.to_json(), allow_nan=False))
    assert (told["kl_mean"]["value"], told["base_sha256"]) == (got.value, got.base_sha256)


@pytest.mark.slow
def test_tokens_without_a_number_are_counted_told_and_left_out(full: Path, tmp_path: Path) -> None:
    broken = damaged(tmp_path / "damaged.gguf", "#")
    text = TEXT[:600] + "#" + TEXT[600:1200]
    clean, got, turned = found(full, full, text), found(broken, full, text), found(full, broken, text)
    assert clean.n_invalid == 0 < got.n_invalid == turned.n_invalid < got.n
    assert got.n + got.n_invalid == clean.n
    assert f"{got.n_invalid} of {clean.n} items invalid and left out" in str(got)
    with pytest.raises(EngineError, match="gave no numbers"):
        found(damaged(tmp_path / "dead.gguf", "e"), full, "e" * 200)


@pytest.mark.slow
def test_its_figures_are_those_of_llama_perplexity(starter: Path, tmp_path: Path) -> None:
    golden = json.loads((TESTS / "golden/fidelity.json").read_text("utf-8"))
    copy = coarser(starter, tmp_path / "coarser.gguf")
    assert in_place(copy).sha256 == golden["model_sha256"], "another model than the golden run's"
    got = found(copy, starter, (TESTS / "data" / golden["text"]).read_text("utf-8"), golden["window"])
    assert got.n_windows == golden["n_windows"]
    for name, figure in got.to_json().items():
        if name in golden and isinstance(figure, dict):
            assert figure["value"] == pytest.approx(golden[name], rel=ROUNDED if "kl" in name else CLOSE), name
    assert got.largest == pytest.approx(golden["kl_largest"], rel=ROUNDED)


@pytest.mark.slow
def test_the_starter_and_a_coarser_copy_of_it(starter: Path, tmp_path: Path) -> None:
    copy = coarser(starter, tmp_path / "coarse.gguf")
    got = found(copy, starter, TEXT[:1000], 32)
    assert 0.001 < got.value < 0.1
    assert 0.8 < got.same_top.value < 1
    assert 0.9 < got.perplexity_ratio.value < 1.1


# What is refused


def test_different_vocabularies_are_refused_by_both_names_before_anything_is_loaded(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = make_tiny.dense_parts().metadata["tokenizer.ggml.tokens"]
    swapped = make_tiny.dense(
        tmp_path / "swapped.gguf", metadata={"tokenizer.ggml.tokens": [*tokens[1::-1], *tokens[2:]]}
    )
    larger = make_tiny.dense(tmp_path / "larger.gguf", marks=["<think>"])
    monkeypatch.setattr(SideBySide, "__init__", lambda *args: pytest.fail("it was loaded"))
    with pytest.raises(
        BadInput, match=r"swapped.gguf and .*full.gguf have different vocab.*Token 0 is 'ā' in the first"
    ):
        found(swapped, full)
    with pytest.raises(BadInput, match=r"full.gguf and .*larger.gguf have.*has 267 tokens, the second 268"):
        found(full, larger)


def test_models_that_write_no_text_short_texts_and_long_windows_are_refused(full: Path, tmp_path: Path) -> None:
    embedder = make_tiny.embedder(tmp_path / "embedder.gguf")
    for pair in ((full, embedder), (embedder, full)):
        with pytest.raises(BadInput, match="cannot do this"):
            found(*pair)
    with pytest.raises(BadInput, match="needs at least 128"):
        found(full, full, "short")
    with pytest.raises(BadInput, match="too short"):
        found(full, full, window=2)
    short = make_tiny.dense(tmp_path / "short.gguf", metadata={"llama.context_length": 128})
    with pytest.raises(ContextOverflow, match="context of 128"):
        found(full, short, window=256)


def test_memory_is_counted_for_both(full: Path, small: Path) -> None:
    with opened(full) as one, opened(small) as other:
        plans = one.children.plan, other.children.plan
        each = [plan.takes("scorer").total for plan in plans]
        with pytest.raises(BadInput, match=r"small.gguf need .* together") as refused:
            SideBySide(*plans, 64, Budget(max(each) + 1))
        assert "full.gguf and small.gguf" in str(refused.value)
        with SideBySide(*plans, 64) as pair:
            (held,) = pair.held()
            plenty = Memory(1 << 40, 1 << 40)
            singles = [check_together([plan.headers], 64, plenty, SCORING) for plan in plans]
            assert held.size.weights == sum(plan.stored.size_bytes for plan in plans)
            assert held.size.total == sum(single.total for single in singles)
        assert not pair.held()


def test_beside_what_is_loaded_there_must_be_room(full: Path, small: Path) -> None:
    with opened(full) as one, opened(small) as other:
        plans = one.children.plan, other.children.plan
        size = check_together([plan.headers for plan in plans], 64, Memory(1 << 40, 1 << 40), SCORING).total
        budget = Budget(size + size // 2)
        with SideBySide(*plans, 64, budget), pytest.raises((NoRoom, BadInput)):
            SideBySide(*plans, 64, budget)
