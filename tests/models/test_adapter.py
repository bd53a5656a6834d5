"""An adapter is held against its base before native code sees either."""

from __future__ import annotations

from pathlib import Path

import pytest

import make_tiny
from filbert.core.errors import BadInput
from filbert.models.adapter import check_adapter
from filbert.models.gguf import read_header


def written(path: Path, name: str, shape: tuple[int, int], architecture: str = "llama") -> Path:
    """An adapter of rank 2 that changes one tensor of rows x columns."""
    parts = make_tiny.Parts(architecture, {"general.type": "adapter", "adapter.type": "lora"}, {})
    parts.tensors[f"{name}.lora_a"] = make_tiny._random(parts, 2, shape[1])
    parts.tensors[f"{name}.lora_b"] = make_tiny._random(parts, shape[0], 2)
    make_tiny.write(path, parts)
    return path


def test_an_adapter_of_the_model_passes(tmp_path: Path) -> None:
    base = read_header(make_tiny.dense(tmp_path / "base.gguf"))
    check_adapter(read_header(make_tiny.adapter(tmp_path / "adapter.gguf")), [base])
    shape = next(tensor.shape for tensor in base.tensors if tensor.name == "blk.0.attn_q.weight")
    check_adapter(read_header(written(tmp_path / "one.gguf", "blk.0.attn_q.weight", (shape[1], shape[0]))), [base])


@pytest.mark.parametrize(
    ("name", "shape", "architecture", "why"),
    [
        ("blk.0.attn_q.weight", (64, 32), "llama", r"Its blk.0.attn_q.weight is 32 x 64, the model's 64 x 64"),
        ("blk.9.attn_q.weight", (64, 64), "llama", "blk.9.attn_q.weight, which the model does not have"),
        ("blk.0.attn_q.weight", (64, 64), "qwen2", "It is for qwen2, the model is llama"),
    ],
)
def test_an_adapter_of_another_model_is_refused_with_what_differs(
    tmp_path: Path, name: str, shape: tuple[int, int], architecture: str, why: str
) -> None:
    base = read_header(make_tiny.dense(tmp_path / "base.gguf"))
    with pytest.raises(BadInput, match=f"was made for another model than base.gguf. .*{why}"):
        check_adapter(read_header(written(tmp_path / "other.gguf", name, shape, architecture)), [base])


def test_a_model_is_no_adapter(tmp_path: Path) -> None:
    base = read_header(make_tiny.dense(tmp_path / "base.gguf"))
    with pytest.raises(BadInput, match=r"base.gguf is no adapter \(language\)"):
        check_adapter(base, [base])
