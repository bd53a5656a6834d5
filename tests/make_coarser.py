"""A coarser copy of a model: some of its matrices quantised anew, for what is measured between a model and its base.

`python tests/make_coarser.py FROM TO` writes the copy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf

KIND = gguf.GGMLQuantizationType.Q4_0


def coarser(source: Path, target: Path, blocks: int = 8) -> Path:
    """The attention's query and output matrices of the first `blocks` blocks as Q4_0, all else as it stands."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    names = {f"blk.{block}.{which}.weight" for block in range(blocks) for which in ("attn_q", "attn_output")}
    for tensor in reader.tensors:
        stored, kind = tensor.data, tensor.tensor_type
        if tensor.name in names:
            kind = KIND
            stored = gguf.quants.quantize(gguf.quants.dequantize(tensor.data, tensor.tensor_type), kind)
        writer.add_tensor(tensor.name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


if __name__ == "__main__":
    print(coarser(Path(sys.argv[1]), Path(sys.argv[2])))
