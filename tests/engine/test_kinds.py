"""Plumbing only: random weights prove that each kind of file is loaded and asked, not that it answers well."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import filbert
import make_tiny
from filbert import Message, Model, Sampling
from filbert.core.errors import BadInput, BadModelFile, ContextOverflow

Load = Callable[..., Model]


@pytest.mark.parametrize("kind", ["dense", "quantised", "experts", "split-00001-of-00003"])
def test_every_kind_of_text_model_answers(load: Load, kind: str) -> None:
    reply = load(kind).generate("hello", max_tokens=5, seed=1).reply()
    assert reply.usage.completion_tokens > 0


def test_a_split_model_says_what_the_whole_one_says(load: Load) -> None:
    greedy = Sampling(temperature=0, max_tokens=8)
    assert load("split-00001-of-00003").complete("abc", greedy).text == load("dense").complete("abc", greedy).text


def test_an_adapter_changes_what_is_said_and_one_without_strength_does_not(load: Load, tiny: Path) -> None:
    greedy = Sampling(temperature=0, max_tokens=8, grammar="root ::= [a-z]{8}")
    weak = make_tiny.adapter(tiny / "weak.gguf", strength=0)
    plain, adapted, unchanged = (
        load("dense", adapters=adapters).complete("abc", greedy).text
        for adapters in ((), (str(tiny / "adapter.gguf"),), (str(weak),))
    )
    assert plain == unchanged != adapted


def test_an_adapter_changes_scores_and_one_without_strength_does_not(load: Load, tiny: Path) -> None:
    weak = make_tiny.adapter(tiny / "weak.gguf", strength=0)
    plain, without, strong = (
        load("dense", adapters=adapters).score("abc", ["d"])[0].loglikelihood
        for adapters in ((), (str(weak),), (str(tiny / "adapter.gguf"),))
    )
    assert plain == without != strong


@pytest.mark.parametrize(("name", "error"), [("missing", BadInput), ("dense", BadInput), ("cut", BadModelFile)])
def test_what_is_no_adapter_is_told_before_the_engine_sees_it(
    load: Load, tiny: Path, name: str, error: type[Exception]
) -> None:
    (tiny / "cut.gguf").write_bytes((tiny / "adapter.gguf").read_bytes()[:5000])
    with pytest.raises(error):
        load("dense", adapters=(str(tiny / f"{name}.gguf"),))


def test_an_embedder_gives_a_unit_vector_a_text_in_the_order_given(load: Load) -> None:
    embedder = load("embedder")
    texts = [f"the cat {letter}" for letter in "abcdefghi"]
    together = embedder.embed(texts)
    assert len(together.vectors) == 9
    assert together.usage.prompt_tokens > 9
    for text, vector in zip(texts, together.vectors, strict=True):
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)
        assert vector == pytest.approx(embedder.embed([text]).vectors[0], abs=1e-4)


def test_a_text_models_mean_brings_like_texts_together(model: Model) -> None:
    cat, kitten, tax = model.embed(["A cat sleeps.", "A kitten is sleeping.", "Tax law of 1987"]).vectors
    assert _dot(cat, kitten) > _dot(cat, tax)


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_long_context_for_talking_does_not_make_embedding_costly(load: Load) -> None:
    model = load("dense", context=4096)
    model.embed(["hi"])
    plan = model.children.workers["embedding"].plan
    assert (plan.n_ctx, plan.n_batch) == (2048 * model.options.parallel, 2048)


def test_a_text_too_long_to_embed_is_told_with_its_length(load: Load) -> None:
    with pytest.raises(ContextOverflow, match=r"A text has 1\d\d\d tokens and the model takes 512 at once"):
        load("embedder").embed(["short", "the cat " * 600])


def test_nothing_to_embed_or_rank_is_nothing(load: Load) -> None:
    assert load("embedder").embed([]).vectors == []
    assert load("reranker").rerank("cat", []) == []


@pytest.mark.parametrize(
    "texts", ["one text", b"bytes", None, 5, [5], [["nested"]], ["half \ud83d"], [b"bytes"]], ids=repr
)
def test_what_is_no_list_of_texts_is_refused(load: Load, texts: Any) -> None:
    with pytest.raises(BadInput):
        load("embedder").embed(texts)
    with pytest.raises(BadInput):
        load("dense").score("abc", texts)


def test_texts_may_come_from_a_generator(load: Load) -> None:
    texts = ["a", "b"]
    assert len(load("embedder").embed(text for text in texts).vectors) == 2
    assert len(load("reranker").rerank("cat", (text for text in texts))) == 2
    model = load("dense")
    assert model.score("abc", (text for text in texts)) == model.score("abc", texts)


@pytest.mark.parametrize(
    ("text", "window"), [(b"abc", 64), (None, 64), ("half \ud83d", 64), ("abc " * 100, "5")], ids=repr
)
def test_a_perplexity_of_what_is_no_text_or_over_what_is_no_number_is_refused(
    load: Load, text: Any, window: Any
) -> None:
    with pytest.raises(BadInput):
        load("dense").perplexity(text, window)


def test_a_reranker_orders_documents_and_keeps_their_numbers(load: Load) -> None:
    documents = [f"the house {letter}" for letter in "abcdefg"]
    ranked = load("reranker").rerank("the cat", documents)
    assert sorted(item.index for item in ranked) == list(range(7))
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("embedder", lambda model: model.generate("hi")),
        ("reranker", lambda model: model.embed(["hi"])),
        ("dense", lambda model: model.rerank("hi", ["ho"])),
    ],
)
def test_a_model_asked_for_what_it_cannot_do_says_what_it_can(
    load: Load, name: str, ask: Callable[[Model], Any]
) -> None:
    with pytest.raises(BadInput, match="and cannot do this"):
        ask(load(name))


def test_an_adapter_or_projector_is_no_model_by_itself(tiny: Path) -> None:
    for name in ("adapter", "mmproj-vision"):
        with pytest.raises(BadInput, match="is no model by itself"):
            filbert.load(str(tiny / f"{name}.gguf"))


def test_a_model_with_its_projector_sees_an_image(tmp_path: Path) -> None:
    path, _ = make_tiny.vision(tmp_path / "eyes.gguf", tmp_path / "mmproj-eyes.gguf")
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png(28)).decode()}"}}
    seen = Message("user", ({"type": "text", "text": "What?"}, image))
    with filbert.load(str(path), context=512) as eyes:
        blind = eyes.count_tokens([Message("user", "What?")])
        assert eyes.count_tokens([seen]) == blind + 4  # 2 x 2 patches
        assert eyes.respond([seen], Sampling(max_tokens=3)).reply().usage.prompt_tokens >= blind + 4


def png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes([row * 9, 5, 200]) * side for row in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_context_that_no_memory_of_this_machine_could_hold_is_refused_before_loading(tiny: Path) -> None:
    parts = make_tiny.dense_parts()
    parts.metadata["llama.context_length"] = 2_000_000_000
    path = tiny / "wide.gguf"
    make_tiny.write(path, parts)
    with pytest.raises(BadInput, match=r"needs [\d.]+ GB of memory with 1900000000 tokens"):
        filbert.load(str(path), context=1_900_000_000)
