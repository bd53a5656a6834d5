"""Prompts and endings as a forest of tokens: what is decoded, and in how many decodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import make_tiny
from filbert.engine.capi import n_outputs
from filbert.engine.forest import Forest, Item, packed
from filbert.engine.scorer import Scorer
from filbert.engine.scoring import N_BATCH, SEQUENCES
from filbert.models.store import in_place

TOKENS = st.lists(st.integers(5, 9), min_size=1, max_size=6)
ITEMS = st.lists(st.builds(Item, TOKENS, st.lists(TOKENS, min_size=1, max_size=4)), max_size=12)


@given(ITEMS)
def test_each_beginning_is_one_node_and_each_token_of_an_ending_one_pick(items: list[Item]) -> None:
    forest = Forest(items)
    asked = [[*item.prefix, *ending] for item in items for ending in item.endings]
    assert len(forest) == len({tuple(each[:n]) for each in asked for n in range(1, len(each))})
    assert len(forest.picks) == sum(len(ending) for item in items for ending in item.endings)
    paths: list[list[int]] = [[] for _ in forest.leaves()]
    for token, position, members in zip(forest.tokens, forest.positions, forest.sequences(), strict=True):
        for number in members:
            assert len(paths[number]) == position
            paths[number].append(token)
    assert {tuple(path) for path in paths} <= {tuple(each[:-1]) for each in asked}


@given(ITEMS, st.integers(12, 40))
def test_packed_keeps_every_item_once_and_in_its_place(items: list[Item], limit: int) -> None:
    batches = list(packed(items, limit))
    assert [i for batch in batches for i in batch] == list(range(len(items)))
    assert all(len(batch) == 1 or len(Forest([items[i] for i in batch])) <= limit for batch in batches)


def test_a_batch_is_one_decode_unless_all_share_a_long_beginning() -> None:
    alone = [Item([number, 1, 2], [[3] * 48]) for number in range(100)]
    assert {len(batch) for batch in packed(alone, 8192)} == {N_BATCH // 50}
    shots = [5] * 1000
    sharing = [Item([*shots, number], [[3] * 50]) for number in range(100)]
    first, *_ = packed(sharing, 8192)
    assert len(first) == 1 + 1050 // 50


def test_no_batch_has_more_sequences_than_the_engine_tells_apart() -> None:
    items = [Item([1], [[number, 2] for number in range(10 * i, 10 * i + 10)]) for i in range(40)]
    batches = list(packed(items, 8192))
    assert [len(Forest([items[i] for i in batch]).leaves()) for batch in batches] == [60] * 6 + [40]
    assert SEQUENCES == 64


def test_items_scored_together_get_what_each_gets_alone(starter: Path) -> None:
    with Scorer(in_place(starter)) as scorer:
        texts = ["The capital of France is", "The capital of Italy is", "Two and two make"]
        endings = scorer.tokenize([" Paris, which lies on the Seine.", " Paris", " Rome", " four, as we all know"])
        items = [Item(prefix, endings) for prefix in scorer.tokenize(texts)]
        before = scorer.n_decoded
        together = scorer.score_items(items)
        assert scorer.n_decoded - before == len(Forest(items))
        alone = [scorer.score(item.prefix, item.endings) for item in items]
        assert together == scorer.score_items(items)
        best = [max(found, key=lambda one: one.loglikelihood or 0).tokens for found in together]
    for ours, theirs in zip(together, alone, strict=True):
        assert [one.greedy for one in ours] == [one.greedy for one in theirs]
        assert [one.loglikelihood for one in ours] == pytest.approx([one.loglikelihood for one in theirs], abs=0.05)
    assert best == [1, 1, 1]
    assert together[0][1].loglikelihood > together[0][2].loglikelihood  # type: ignore[operator]
    assert together[1][1].loglikelihood < together[1][2].loglikelihood  # type: ignore[operator]


@pytest.mark.slow
def test_incident_a_model_of_a_large_vocabulary_scores_items_together(tools_model_file: Path) -> None:
    """The engine makes room for logits of as many rows as it has sequences, and aborts where that is more than it was
    told of: so it did with every vocabulary above 65,536."""
    assert min(n_outputs(n_vocab) for n_vocab in (1000, 65_536, 152_000, 262_144, 10**6)) >= SEQUENCES
    with Scorer(in_place(tools_model_file)) as scorer:
        assert scorer.about["n_vocab"] > 150_000
        prefix, right, wrong = scorer.tokenize(["The capital of France is", " Paris", " cheese"])
        ((first, second),) = scorer.score_items([Item(prefix, [right, wrong])])
    assert first.loglikelihood > second.loglikelihood  # type: ignore[operator]


def test_what_one_decode_cannot_hold_is_scored_all_the_same(tmp_path: Path) -> None:
    stored = in_place(make_tiny.dense(tmp_path / "tiny.gguf"))
    items = [Item([5, number % 99, number // 99], [[7, 6, 8], [9]]) for number in range(SEQUENCES + 10)]
    with Scorer(stored, threads=1) as scorer:
        found = scorer.score_items(items)
        again = [scorer.score_items(items[i : i + 50]) for i in range(0, len(items), 50)]
    values = [one.loglikelihood for item in found for one in item]
    assert values == pytest.approx([one.loglikelihood for part in again for item in part for one in item], abs=0.05)
