"""Files with the header of a model and holes for weights: what is planned of a model needs no more.

Families differ in what llama.cpp asks when it chooses types: how heads share keys, experts, tied embeddings, rows that
are no multiple of 256, matrices in three dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np


@dataclass(frozen=True)
class Family:
    """tensors: of a block, by name, as (columns, rows) or (columns, rows, matrices); outside: those of no block; block:
    how its name begins."""

    architecture: str
    blocks: int
    width: int
    heads: int
    kv_heads: int
    feed: int
    tensors: Mapping[str, tuple[int, ...]]
    outside: Mapping[str, tuple[int, ...]]
    experts: int = 0
    keys: Mapping[str, int | float] = field(default_factory=dict)
    block: str = "blk"

    def write(self, path: Path) -> Path:
        writer = gguf.GGUFWriter(path, self.architecture)
        if self.block == "blk":
            writer.add_block_count(self.blocks)
        writer.add_context_length(2048)
        writer.add_embedding_length(self.width)
        writer.add_feed_forward_length(self.feed)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_layer_norm_eps(1e-5)
        writer.add_vocab_size(VOCABULARY)
        if self.experts:
            writer.add_expert_count(self.experts)
            writer.add_expert_used_count(2)
        for key, value in self.keys.items():
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(f"{self.architecture}.{key}", value)
        of_blocks = {
            f"{self.block}.{i}.{name}": shape for i in range(self.blocks) for name, shape in self.tensors.items()
        }
        for name, shape in {**self.outside, **of_blocks}.items():
            kind = np.float32 if len(shape) == 1 else np.float16
            writer.add_tensor_info(name, shape[::-1], np.dtype(kind), int(np.prod(shape)) * np.dtype(kind).itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with path.open("r+b") as file:
            sizes = [4 * shape[0] if len(shape) == 1 else 2 * int(np.prod(shape)) for shape in self._shapes()]
            end = path.stat().st_size
            end += -end % 32
            file.truncate(end + sum(size + -size % 32 for size in sizes))
        return path

    def _shapes(self) -> list[tuple[int, ...]]:
        return [*self.outside.values(), *(shape for _ in range(self.blocks) for shape in self.tensors.values())]


VOCABULARY = 512


def attention(width: int, heads: int, kv_heads: int, head: int) -> dict[str, tuple[int, ...]]:
    return {
        "attn_norm.weight": (width,),
        "attn_q.weight": (width, heads * head),
        "attn_k.weight": (width, kv_heads * head),
        "attn_v.weight": (width, kv_heads * head),
        "attn_output.weight": (heads * head, width),
        "ffn_norm.weight": (width,),
    }


def dense(width: int, feed: int) -> dict[str, tuple[int, ...]]:
    return {"ffn_gate.weight": (width, feed), "ffn_up.weight": (width, feed), "ffn_down.weight": (feed, width)}


def sparse(width: int, feed: int, experts: int) -> dict[str, tuple[int, ...]]:
    stacked = {name.replace(".", "_exps."): (*shape, experts) for name, shape in dense(width, feed).items()}
    return {"ffn_gate_inp.weight": (width, experts), **stacked}


def ends(width: int, *, tied: bool = False) -> dict[str, tuple[int, ...]]:
    output: dict[str, tuple[int, ...]] = {} if tied else {"output.weight": (width, VOCABULARY)}
    return {"token_embd.weight": (width, VOCABULARY), "output_norm.weight": (width,), **output}


def some_imatrix(path: Path, lengths: Mapping[str, int]) -> Path:
    """An importance matrix of nothing in particular, the same each time. lengths: of the rows of each tensor."""
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["nothing in particular"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, length in lengths.items():
        writer.add_tensor(f"{name}.in_sum2", random.gamma(0.5, 100, (1, length)).astype(np.float32))
        writer.add_tensor(f"{name}.counts", np.full((1, 1), 1024, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ROPE = {"rope.dimension_count": 64, "rope.freq_base": 10000.0}
FAMILIES = {
    "llama-135m": Family(
        *("llama", 30, 576, 9, 3, 1536), attention(576, 9, 3, 64) | dense(576, 1536), ends(576, tied=True), keys=ROPE
    ),
    "llama-1b": Family(*("llama", 22, 512, 8, 2, 1024), attention(512, 8, 2, 64) | dense(512, 1024), ends(512)),
    "llama-shared-by-none": Family(
        *("llama", 32, 512, 8, 8, 1024), attention(512, 8, 8, 64) | dense(512, 1024), ends(512), keys=ROPE
    ),
    "llama-70b": Family(
        *("llama", 80, 512, 8, 1, 1024), attention(512, 8, 1, 64) | dense(512, 1024), ends(512), keys=ROPE
    ),
    "mixtral": Family(
        *("llama", 32, 512, 8, 2, 1024), attention(512, 8, 2, 64) | sparse(512, 1024, 8), ends(512), 8, ROPE
    ),
    "falcon": Family(
        *("falcon", 32, 512, 8, 1, 2048),
        {
            "attn_norm.weight": (512,),
            "attn_norm.bias": (512,),
            "attn_qkv.weight": (512, 640),
            "attn_output.weight": (512, 512),
            "ffn_up.weight": (512, 2048),
            "ffn_down.weight": (2048, 512),
        },
        ends(512),
    ),
    "qwen2": Family(
        *("qwen2", 24, 896, 14, 2, 4864),
        attention(896, 14, 2, 64) | {"attn_q.bias": (896,), "attn_k.bias": (128,)} | dense(896, 4864),
        ends(896, tied=True),
    ),
    "qwen3moe": Family(
        *("qwen3moe", 48, 512, 8, 1, 1024),
        attention(512, 8, 1, 64) | {"attn_q_norm.weight": (64,)} | sparse(512, 256, 16),
        ends(512),
        16,
        {"expert_feed_forward_length": 256},
    ),
    "qwen2moe": Family(
        *("qwen2moe", 24, 512, 8, 8, 1024),
        attention(512, 8, 8, 64)
        | sparse(512, 256, 4)
        | {name.replace(".", "_shexp."): shape for name, shape in dense(512, 512).items()},
        ends(512),
        4,
        {"expert_feed_forward_length": 256, "expert_shared_feed_forward_length": 512},
    ),
    "gemma2-narrow": Family(
        *("gemma2", 26, 336, 4, 2, 1000),
        attention(336, 4, 2, 64) | dense(336, 1000),
        ends(336, tied=True),
        keys={"attention.key_length": 64, "attention.value_length": 64, "attention.sliding_window": 512},
    ),
    "bert": Family(
        *("bert", 6, 384, 12, 12, 1536),
        {
            "attn_q.weight": (384, 384),
            "attn_k.weight": (384, 384),
            "attn_v.weight": (384, 384),
            "attn_output.weight": (384, 384),
            "ffn_up.weight": (384, 1536),
            "ffn_down.weight": (1536, 384),
            "ffn_down.bias": (384,),
        },
        {
            "token_embd.weight": (384, VOCABULARY),
            "position_embd.weight": (384, 512),
            "token_types.weight": (384, 2),
            "token_embd_norm.weight": (384,),
        },
    ),
    "projector": Family(
        *("clip", 12, 512, 8, 8, 2048),
        {
            "attn_q.weight": (512, 512),
            "attn_k.weight": (512, 512),
            "attn_v.weight": (512, 512),
            "attn_out.weight": (512, 512),
            "ln1.weight": (512,),
            "ffn_up.weight": (512, 2048),
            "ffn_down.weight": (2048, 512),
        },
        {
            "v.patch_embd.weight": (14, 14, 3, 512),
            "v.position_embd.weight": (512, 196),
            "mm.0.weight": (512, 576),
            "mm.2.weight": (576, 576),
            "mm.2.bias": (576,),
        },
        block="v.blk",
    ),
}
