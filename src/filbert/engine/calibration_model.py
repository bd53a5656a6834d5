"""Model files to time the engine with: right in shape, nothing in the weights, written in milliseconds.

What a matrix product takes does not depend on what the weights are, so they are holes in the file where zeros will do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from filbert.models.gguf_types import TENSOR_TYPES

HEAD = 64  # values a head
CONTEXT = 8192
U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
ALIGNMENT = 32
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
        return _size(self.weights, 1, self.kind)

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
        file.write(_header(shape, tensors))
        for _, (columns, rows), kind in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            _fill(file, columns, rows, kind, shape)
    return path


def _fill(file: BinaryIO, columns: int, rows: int, kind: str, shape: Shape) -> None:
    size_bytes = _size(columns, rows, kind)
    if shape.filled and rows == 1:
        file.write(np.ones(columns, np.float32).tobytes())
    elif shape.filled or (shape.speaks and rows == shape.vocabulary):
        file.write((np.random.default_rng(1).standard_normal((rows, columns)) * 0.1).astype(np.float16).tobytes())
    elif kind in FILLED:
        file.write(FILLED[kind] * size_bytes)
    else:
        file.truncate(file.tell() + size_bytes)
        file.seek(size_bytes, 1)


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, int], str]]:
    """(name, (columns, rows), type)"""
    yield "token_embd.weight", (shape.width, shape.vocabulary), "F16"
    yield "output_norm.weight", (shape.width, 1), "F32"
    for block in range(shape.blocks):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{block}.{norm}.weight", (shape.width, 1), "F32"
        for name, size in shape.matrices.items():
            yield f"blk.{block}.{name}.weight", size, shape.kind


def _size(columns: int, rows: int, kind: str) -> int:
    stored = TENSOR_TYPES[NUMBERS[kind]]
    return columns * rows // stored.block * stored.size_bytes


def _header(shape: Shape, tensors: list[tuple[str, tuple[int, int], str]]) -> bytes:
    keys = [*_sizes(shape), *(_vocabulary(shape.vocabulary) if shape.speaks else _no_vocabulary(shape.vocabulary))]
    offset, described = 0, []
    for name, (columns, rows), kind in tensors:
        dimensions = (columns,) if rows == 1 else (columns, rows)
        sizes = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        described.append(_text(name) + sizes + struct.pack("<IQ", NUMBERS[kind], offset))
        offset += -(-_size(columns, rows, kind) // ALIGNMENT) * ALIGNMENT
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join((*keys, *described))


def _sizes(shape: Shape) -> Iterator[bytes]:
    yield _key("general.architecture", STRING, _text("llama"))
    for name, value in (
        ("context_length", CONTEXT),
        ("embedding_length", shape.width),
        ("block_count", shape.blocks),
        ("feed_forward_length", shape.feed),
        ("attention.head_count", shape.width // HEAD),
        ("attention.head_count_kv", shape.kv_heads),
        ("vocab_size", shape.vocabulary),
    ):
        yield _key(f"llama.{name}", U32, struct.pack("<I", value))
    yield _key("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5))


def _no_vocabulary(_: int) -> Iterator[bytes]:
    yield _key("tokenizer.ggml.model", STRING, _text("none"))


def _vocabulary(entries: int) -> Iterator[bytes]:
    """A byte-level tokenizer without merges, for the engine speaks with none else."""
    words = [f"w{number}" for number in range(entries)]
    yield _key("tokenizer.ggml.model", STRING, _text("gpt2"))
    yield _key("tokenizer.ggml.pre", STRING, _text("gpt-2"))
    yield _key("tokenizer.ggml.tokens", ARRAY, _array(STRING, entries, b"".join(map(_text, words))))
    yield _key("tokenizer.ggml.token_type", ARRAY, _array(I32, entries, struct.pack(f"<{entries}i", *[1] * entries)))
    yield _key("tokenizer.ggml.merges", ARRAY, _array(STRING, 1, _text("w 1")))
    yield _key("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 0))


def _key(name: str, kind: int, payload: bytes) -> bytes:
    return _text(name) + struct.pack("<I", kind) + payload


def _array(kind: int, count: int, payload: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + payload


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
