"""Model files to time the engine with: right in shape, nothing in the weights, written in milliseconds.

What a matrix product takes does not depend on what the weights are, so they are holes in the file where zeros will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from filbert.models.gguf_write import Value, header_bytes, padded, placed, size_of

HEAD = 64  # values a head
CONTEXT = 8192
NO_WORDS = {"tokenizer.ggml.model": "none"}
# A scale of zero bytes is 2^-128 here, and products of so small a number are slow.
FILLED = {"MXFP4": b"\x77"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model of llama's architecture. kind: tensor type of its matrices; vocabulary: entries, with a tokenizer and
    an output that tells them apart where `speaks`; sharing: heads that share a key, four in most models of today;
    filled: with numbers (F16) where others hold nothing."""

    width: int
    feed: int
    blocks: int
    kind: str = "F16"
    vocabulary: int = 256
    speaks: bool = False
    sharing: int = 4
    filled: bool = False

    @property
    def kv_heads(self) -> int:
        return max(1, self.width // HEAD // self.sharing)

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Those of a block: columns, rows."""
        width, feed = self.width, self.feed
        attention = {"attn_q": (width, width), "attn_output": (width, width)}
        attention |= dict.fromkeys(("attn_k", "attn_v"), (width, self.kv_heads * HEAD))
        return {**attention, "ffn_gate": (width, feed), "ffn_up": (width, feed), "ffn_down": (feed, width)}

    @property
    def weights(self) -> int:
        """In the blocks' matrices."""
        return self.blocks * sum(columns * rows for columns, rows in self.matrices.values())

    @property
    def prompt_weights(self) -> int:
        """That a prompt's tokens are multiplied with: behind the attention of the last block only the last token is
        wanted."""
        return self.weights - self.width * self.width - 3 * self.width * self.feed

    @property
    def size_bytes(self) -> int:
        """Of the blocks' matrices."""
        return size_of((self.weights,), self.kind)

    @property
    def kept(self) -> int:
        """Keys and values that a block keeps of a token."""
        return 2 * self.kv_heads * HEAD

    @property
    def tensors(self) -> int:
        return 2 + self.blocks * (2 + len(self.matrices))


def write(path: Path, shape: Shape) -> Path:
    tensors = list(_tensors(shape))
    with path.open("wb") as file:
        file.write(header_bytes(None, _keys(shape), placed(tensors)))
        for _, lengths, kind in tensors:
            file.write(bytes(padded(file.tell()) - file.tell()))
            _fill(file, lengths, kind, shape)
    return path


def _fill(file: BinaryIO, lengths: tuple[int, ...], kind: str, shape: Shape) -> None:
    size_bytes = size_of(lengths, kind)
    if shape.filled and len(lengths) == 1:
        file.write(np.ones(lengths, np.float32).tobytes())
    elif shape.filled or (shape.speaks and lengths[1:] == (shape.vocabulary,)):
        file.write((np.random.default_rng(1).standard_normal(lengths[::-1]) * 0.1).astype(np.float16).tobytes())
    elif kind in FILLED:
        file.write(FILLED[kind] * size_bytes)
    else:
        file.truncate(file.tell() + size_bytes)
        file.seek(size_bytes, 1)


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Name, (columns, rows) and type of each."""
    yield "token_embd.weight", (shape.width, shape.vocabulary), "F16"
    yield "output_norm.weight", (shape.width,), "F32"
    for block in range(shape.blocks):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{block}.{norm}.weight", (shape.width,), "F32"
        for name, size in shape.matrices.items():
            yield f"blk.{block}.{name}.weight", size, shape.kind


def _keys(shape: Shape) -> dict[str, Value]:
    lengths = {
        "context_length": CONTEXT,
        "embedding_length": shape.width,
        "block_count": shape.blocks,
        "feed_forward_length": shape.feed,
        "attention.head_count": shape.width // HEAD,
        "attention.head_count_kv": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    keys = {f"llama.{name}": value for name, value in lengths.items()}
    return {"general.architecture": "llama", **keys, **(_vocabulary(shape.vocabulary) if shape.speaks else NO_WORDS)}


def _vocabulary(entries: int) -> dict[str, Value]:
    """A byte-level tokenizer without merges, for the engine speaks with none else."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [f"w{number}" for number in range(entries)],
        "tokenizer.ggml.token_type": [1] * entries,
        "tokenizer.ggml.merges": ["w 1"],
        "tokenizer.ggml.eos_token_id": 0,
    }
