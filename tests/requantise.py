"""A model with its matrices in other types, for what is measured between a model and the one it was made from.

`python tests/requantise.py FROM TO` writes the coarser copy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
from gguf import GGMLQuantizationType as Type


def coarser(source: Path, target: Path, blocks: int = 8) -> Path:
    """The attention's query and output matrices of the first `blocks` blocks as Q4_0, all else as it stands."""
    names = {f"blk.{block}.{which}.weight" for block in range(blocks) for which in ("attn_q", "attn_output")}
    return _written(source, target, lambda tensor: Type.Q4_0 if tensor.name in names else tensor.tensor_type)


def uncompressed(source: Path, target: Path) -> Path:
    """Every matrix as F16."""
    return _written(source, target, lambda tensor: Type.F16 if len(tensor.shape) > 1 else tensor.tensor_type)


def first_block(source: Path, target: Path) -> Path:
    """Every matrix as F16, and of the blocks only the first: a model that is quantised in a second."""

    def type_of(tensor: gguf.ReaderTensor) -> Type | None:
        if tensor.name.startswith("blk.") and not tensor.name.startswith("blk.0."):
            return None
        return Type.F16 if len(tensor.shape) > 1 else tensor.tensor_type

    return _written(source, target, type_of, {"llama.block_count": 1})


def _written(
    source: Path,
    target: Path,
    type_of: Callable[[gguf.ReaderTensor], Type | None],
    said: Mapping[str, int] = MappingProxyType({}),
) -> Path:
    """type_of: None for a tensor that is left out; said: keys that get another value."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(
                key, said.get(key, field.contents()), kind, field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in reader.tensors:
        stored, kind = tensor.data, type_of(tensor)
        if kind is None:
            continue
        if kind != tensor.tensor_type:
            stored = gguf.quants.quantize(gguf.quants.dequantize(tensor.data, tensor.tensor_type), kind)
        writer.add_tensor(tensor.name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


if __name__ == "__main__":
    print(coarser(Path(sys.argv[1]), Path(sys.argv[2])))
