"""Decoders of llama's family in torch, as a GGUF file has them: what gradients and distillation are computed with.

Names are the file's, so that a gradient is of the tensor that is rounded. What it covers is little, and is compared
with the engine before it is used (`gradient.py`). Its parts are those of llama.cpp's src/models: RMSNorm (Zhang and
Sennrich, 2019), rotary positions (Su et al., 2021), grouped queries (Ainslie et al., 2023).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from filbert.core.errors import BadInput
from filbert.models.gguf import read_header
from filbert.models.header import Header, Tensor

HALVES = {"qwen2", "qwen3"}  # pairs of a head that turn together: i and i + half of it; else 2i and 2i + 1
KNOWN = HALVES | {"llama"}
OTHERWISE = ("rope.scaling.type", "expert_count", "attention.sliding_window", "logit_scale", "embedding_scale")
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3  # malloc.h
Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Network:
    """head: values in a key of one head. eps, base: of the norms and of the rotation."""

    blocks: int
    heads: int
    kv_heads: int
    head: int
    eps: float
    base: float
    halves: bool
    turned: int

    def hidden(self, weights: Weights, tokens: torch.Tensor) -> torch.Tensor:
        """What the output matrix is multiplied with: tokens of shape (n,) give (n, width)."""
        cosine, sine = self._rotation(weights, len(tokens))
        x = functional.embedding(tokens, weights["token_embd.weight"])
        for block in range(self.blocks):
            of = _Block(weights, f"blk.{block}.")
            x = x + self._attention(of, self._norm(x, of["attn_norm.weight"]), cosine, sine)
            h = self._norm(x, of["ffn_norm.weight"])
            x = x + of.linear("ffn_down", functional.silu(of.linear("ffn_gate", h)) * of.linear("ffn_up", h))
        return self._norm(x, weights["output_norm.weight"])

    def _attention(self, of: _Block, h: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        n = len(h)
        q = of.linear("attn_q", h).view(n, self.heads, self.head)
        k = of.linear("attn_k", h).view(n, self.kv_heads, self.head)
        v = of.linear("attn_v", h).view(n, self.kv_heads, self.head).transpose(0, 1)
        if "attn_q_norm.weight" in of:
            q, k = self._norm(q, of["attn_q_norm.weight"]), self._norm(k, of["attn_k_norm.weight"])
        q, k = (self._turned(each.transpose(0, 1), cosine, sine) for each in (q, k))
        k, v = (each.repeat_interleave(self.heads // self.kv_heads, 0) for each in (k, v))
        seen = functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        return of.linear("attn_output", seen.transpose(0, 1).reshape(n, -1))

    def _norm(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, gain.shape, gain, self.eps)

    def _rotation(self, weights: Weights, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        frequencies = self.base ** (-torch.arange(0, self.turned, 2, dtype=torch.float64) / self.turned)
        if "rope_freqs.weight" in weights:
            frequencies = frequencies / weights["rope_freqs.weight"].detach()
        angles = (torch.arange(n)[:, None] * frequencies[None]).float()
        return angles.cos(), angles.sin()

    def _turned(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """x: of shape (heads, n, head)."""
        turned, rest = x[..., : self.turned], x[..., self.turned :]
        if self.halves:
            a, b = turned.chunk(2, -1)
            return torch.cat([a * cosine - b * sine, a * sine + b * cosine, rest], -1)
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)
        return torch.cat([turned, rest], -1)


class _Block:
    def __init__(self, weights: Weights, prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[self._prefix + name]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._weights

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self[f"{name}.weight"], self._weights.get(f"{self._prefix}{name}.bias"))


def output(weights: Weights) -> torch.Tensor:
    """The matrix that makes logits of what `Network.hidden` gives, of shape (vocabulary, width)."""
    return weights["output.weight"] if "output.weight" in weights else weights["token_embd.weight"]


def network(header: Header, names: Sequence[str]) -> Network:
    """names: of the file's tensors. Raises BadInput for what is not covered."""
    kind, blocks = header.architecture, header.block_count or 0
    other = [key for key in OTHERWISE if header.metadata.get(f"{kind}.{key}") not in (None, 0, "none")]
    if kind not in KNOWN or other or set(names) != _expected(blocks, names):
        raise BadInput(
            f"Gradients of {header.source} cannot be computed.",
            why=f"Its architecture is {kind}{f' with {other[0]}' if other else ''}, and known are {_list()}.",
            do="Add `--sensitivity swap`, which the engine measures of every architecture.",
        )
    return Network(
        blocks,
        header.head_counts[0],
        header.kv_head_counts[0],
        header.key_length,
        _real(header, "attention.layer_norm_rms_epsilon", 1e-5),
        _real(header, "rope.freq_base", 10000.0),
        kind in HALVES,
        header.number("rope.dimension_count") or header.key_length,
    )


def _list() -> str:
    return ", ".join(sorted(KNOWN))


def _expected(blocks: int, names: Sequence[str]) -> set[str]:
    """What a file of these blocks may hold, of what it does hold; and all that it must."""
    must = {"token_embd.weight", "output_norm.weight"}
    may = {"output.weight", "rope_freqs.weight"}
    for block in range(blocks):
        roles = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
        must |= {f"blk.{block}.{role}.weight" for role in roles}
        may |= {f"blk.{block}.{role}.bias" for role in roles}
        may |= {f"blk.{block}.attn_{role}_norm.weight" for role in "qk"}
    return must | (may & set(names))


def _real(header: Header, key: str, otherwise: float) -> float:
    value = header.metadata.get(f"{header.architecture}.{key}", otherwise)
    return float(value) if isinstance(value, int | float) else otherwise


def start(threads: int) -> None:
    """What a child does first. Memory that is freed is kept: to get it anew from the system for each product takes as
    long as softmax over a vocabulary."""
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc's
        libc.mallopt(MALLOPT_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(MALLOPT_TRIM_THRESHOLD, (1 << 31) - 1)


def read_all(parts: Sequence[Path]) -> tuple[dict[str, torch.Tensor], dict[str, Tensor], Header]:
    """The weights of a model's files, what the files say of each, and the first file's header."""
    headers = [(read_header(part), part) for part in parts]
    tensors = {tensor.name: tensor for header, _ in headers for tensor in header.tensors}
    weights = {tensor.name: read(part, tensor) for header, part in headers for tensor in header.tensors}
    return weights, tensors, headers[0][0]


def read(path: Path, tensor: Tensor) -> torch.Tensor:
    """As float32 in torch's order: of shape (…, rows, columns)."""
    import gguf  # with torch, in the same extra

    data = np.fromfile(path, np.uint8, tensor.size_bytes, offset=tensor.offset)
    numbers = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[tensor.type])
    return torch.from_numpy(np.ascontiguousarray(numbers, np.float32).reshape(tensor.shape[::-1]).copy())
