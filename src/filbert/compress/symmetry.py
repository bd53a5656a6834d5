"""What a network does not notice: a factor that goes into one tensor and out of another.

A norm's gain cancels in the columns of the matrices that read the norm; a value's row in the column of the output
projection that reads it; a row of `ffn_up` in its column of `ffn_down`, for the activation is on the gate's side. So
the columns may have any scale, and a quantiser, whose blocks lie along a row, may be given those that round best
(cross-layer equalisation, Nagel et al. 2019; by how much a column is used: AWQ, Lin et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from filbert.models.header import Header, Tensor

QKV = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_q_a", "attn_kv_a_mqa")
FFN = (
    *("ffn_gate", "ffn_up", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps"),
    *("ffn_gate_inp_shexp", "ffn_gate_shexp", "ffn_up_shexp"),
)
GATED = ("", "_exps", "_shexp")
OUTPUT_NORM = ("output_norm.weight", "output_norm.bias")
BETWEEN = ("attn_sub_norm", "ffn_sub_norm")  # a norm between a matrix and the one that reads it


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Each factor multiplies a column of all `columns`, and divides an entry of the vectors or a row of the matrices in
    `rows`. heads: of queries, and of values, each of which is read by several of the former; else 1 and 1."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    heads: tuple[int, int] = (1, 1)


def symmetries(headers: Sequence[Header]) -> list[Symmetry]:
    """headers: of a model's files, in order. Told by the names of its tensors: whether a network of that architecture
    has them is for the engine to say."""
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    blocks = range(headers[0].block_count or 0)
    found = [each for block in blocks for each in _of_block(f"blk.{block}.", block, headers[0], tensors)]
    if "output.weight" in tensors and (norm := [name for name in OUTPUT_NORM if name in tensors]):
        found.append(Symmetry(("output.weight",), tuple(norm)))
    return found


def _of_block(block: str, number: int, header: Header, tensors: Mapping[str, Tensor]) -> Iterator[Symmetry]:
    def there(*names: str) -> tuple[str, ...]:
        full = (f"{block}{name}{ending}" for name in names for ending in (".weight", ".bias"))
        return tuple(name for name in full if name in tensors)

    def matrices(*names: str) -> tuple[str, ...]:
        return tuple(name for name in there(*names) if name.endswith(".weight"))

    if there("ffn_norm"):  # else what reads the first norm is not only attention
        for norm, readers in (("attn_norm", QKV), ("ffn_norm", FFN)):
            if there(norm) and matrices(*readers):
                yield Symmetry(matrices(*readers), there(norm))
    if there(*BETWEEN):
        return
    for ending in GATED:
        up, down = matrices(f"ffn_up{ending}"), matrices(f"ffn_down{ending}")
        if up and down and there(f"ffn_gate{ending}") and _meet(tensors[up[0]], tensors[down[0]]):
            yield Symmetry(down, there(f"ffn_up{ending}"))
    value, output = matrices("attn_v"), matrices("attn_output")
    if value and output and number < len(header.head_counts):
        heads = header.head_counts[number], header.kv_head_counts[number]
        if all(heads) and tensors[value[0]].shape[1] * heads[0] == tensors[output[0]].shape[0] * heads[1]:
            yield Symmetry(output, there("attn_v"), heads)


def _meet(up: Tensor, down: Tensor) -> bool:
    """Whether each row of one is a column of the other, and of the same expert."""
    return up.shape[1] == down.shape[0] and up.shape[2:] == down.shape[2:]
