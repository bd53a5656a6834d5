from __future__ import annotations

import pytest

from filbert.models.search import search


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("smollm2", "smollm2:135m-q4_1"),
        ("smolm2", "smollm2:135m-q4_1"),
        ("Gemma-2", "gemma2:2b-q4_k_m"),
        ("openai", "gpt-oss:20b-mxfp4"),
        ("opanai", "gpt-oss:20b-mxfp4"),
        ("microsft mini reasoning", "phi4-mini:3.8b-reasoning-q4_k_m"),
        ("qwen2.5 coder 7b", "qwen2.5-coder:7b-q4_k_m"),
        ("german apache", "mistral-nemo:12b-q4_k_m"),
        ("bartowski hermes4", "hermes4:14b-q4_k_m"),
        ("lfm2.5 q8_0 1.6b", "lfm2.5-vl:1.6b-q8_0"),
        ("Meta-Llama-3-8B-Instruct.Q4_0.gguf", "llama3:8b-q4_0"),
    ],
)
def test_words_find_the_model_they_mean(words: str, first: str) -> None:
    assert search(words)[0].name == first


@pytest.mark.parametrize(
    ("words", "capability"),
    [("embeddings", "embed"), ("reranker", "rerank"), ("images google", "vision"), ("reasoning qwen3", "thinking")],
)
def test_an_ability_finds_all_that_have_it(words: str, capability: str) -> None:
    found = search(words)
    assert len(found) > 2 and all(capability in entry.capabilities for entry in found)


def test_every_word_has_to_be_found() -> None:
    assert search("gemma xyzzy-plugh") == () == search("") == search("xyzzy-plugh")
    assert len(search("gemma google")) >= len(search("gemma google vision")) > 0
    assert all(entry.maker == "Google" for entry in search("google"))
