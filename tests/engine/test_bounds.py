from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from filbert import Message, Model
from filbert.core.errors import ContextOverflow
from filbert.engine.bounds import LONGEST_TOKEN, need_context, text_bytes

Load = Callable[..., Model]


@pytest.mark.slow
def test_no_token_of_a_real_vocabulary_is_longer_than_the_bound(starter: Path) -> None:
    tokens = gguf.GGUFReader(starter).fields["tokenizer.ggml.tokens"]
    assert 16 <= max(len(tokens.parts[at]) for at in tokens.data) <= LONGEST_TOKEN


def test_a_text_of_as_many_bytes_as_the_context_can_hold_is_left_to_the_engine() -> None:
    need_context(100 * LONGEST_TOKEN, 100)
    with pytest.raises(ContextOverflow, match="25601 bytes, and 100 tokens of context hold 25600 at most"):
        need_context(100 * LONGEST_TOKEN + 1, 100)


def test_images_are_no_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}
    seen = {"role": "user", "content": [{"type": "text", "text": "What?"}, image]}
    assert text_bytes({"messages": [seen, {"role": "user", "content": "Nüsse"}]}) == 5 + 6


@pytest.mark.parametrize("kind", ["prompt", "message", "text", "query", "document", "scored", "ending"])
def test_a_text_no_context_holds_is_refused_before_the_engine_reads_it(load: Load, kind: str) -> None:
    huge = "nuts " * (1 << 20)
    name = "reranker" if kind in ("query", "document") else "dense"
    model = load(name)
    asked = {
        "prompt": lambda: model.complete(huge),
        "message": lambda: model.respond([Message("user", "hi"), Message("assistant", huge)]),
        "text": lambda: model.embed(["short", huge]),
        "query": lambda: model.rerank(huge, ["a"]),
        "document": lambda: model.rerank("a", ["b", huge]),
        "scored": lambda: model.score(huge, ["a"]),
        "ending": lambda: model.score("a", ["b", huge]),
    }
    with pytest.raises(ContextOverflow, match="bytes, and 512 tokens of context hold"):
        asked[kind]()
