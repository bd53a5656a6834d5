"""Models in torch: the same log-likelihoods as the engine's, of each architecture that they cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import make_tiny
from filbert.core.errors import BadInput
from filbert.engine.scorer import Scorer
from filbert.models.gguf import read_header
from filbert.models.store import in_place

pytestmark = pytest.mark.torch

TOKENS = [int(token) for token in np.random.default_rng(0).integers(0, 200, 90)]


def written(path: Path, architecture: str, more: dict[str, np.ndarray]) -> Path:
    parts = make_tiny.dense_parts()
    parts.architecture = architecture
    parts.metadata = {key.replace("llama.", f"{architecture}."): value for key, value in parts.metadata.items()}
    parts.tensors |= more
    make_tiny.write(path, parts)
    return path


def in_each_block(**shapes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        f"blk.{block}.{name}": rng.normal(1, 0.3, length).astype(np.float32)
        for block in range(make_tiny.BLOCKS)
        for name, length in shapes.items()
    }


HEAD = make_tiny.WIDTH // make_tiny.HEADS
BIASES = in_each_block(
    **{
        "attn_q.bias": HEAD * make_tiny.HEADS,
        "attn_k.bias": HEAD * make_tiny.KV_HEADS,
        "attn_v.bias": HEAD * make_tiny.KV_HEADS,
    }
)
NORMS = in_each_block(**{"attn_q_norm.weight": HEAD, "attn_k_norm.weight": HEAD})
TURNS = {"rope_freqs.weight": np.linspace(1, 8, HEAD // 2).astype(np.float32)}


@pytest.mark.parametrize(
    ("architecture", "more"),
    [("llama", {}), ("llama", TURNS), ("qwen2", BIASES), ("qwen3", NORMS)],
    ids=["llama", "llama3", "qwen2", "qwen3"],
)
def test_its_likelihoods_are_the_engines(tmp_path: Path, architecture: str, more: dict[str, np.ndarray]) -> None:
    from filbert.compress.gradient_main import likelihoods
    from filbert.compress.network import network, read_all

    path = written(tmp_path / "model.gguf", architecture, more)
    weights, _, header = read_all([path])
    ours = likelihoods(network(header, list(weights)), weights, TOKENS)
    with Scorer(in_place(path), threads=1) as scorer:
        theirs = [each.loglikelihood for each in scorer.predict([TOKENS], 1)[0][:-1]]
    assert len(ours) == len(TOKENS) - 1
    assert ours == pytest.approx(theirs, abs=0.02)
    assert np.std(ours) > 0.1


def test_what_it_does_not_cover_is_named(tmp_path: Path) -> None:
    from filbert.compress.network import network

    for path in (make_tiny.experts(tmp_path / "experts.gguf"), make_tiny.embedder(tmp_path / "bert.gguf")):
        header = read_header(path)
        with pytest.raises(BadInput, match=r"--sensitivity swap"):
            network(header, [tensor.name for tensor in header.tensors])
