"""A full model of a compressed one, whose weights lie on no grid of a type: for `compress.py`, a second family.

    python benchmarks/compress/full_model.py COMPRESSED.gguf FULL.gguf [--sigma 0.2] [--noise 0.005] [--seed 0]

As `benchmarks/evaluate/full_precision.py` does it for llama's family, on the GGUF itself and for each architecture
that has symmetries: dequantised, re-scaled by log-normal factors that the network does not notice, and perturbed by so
little noise that it stays as good a model. So part of what re-scaling gains on it is what was lost here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

from filbert.compress.equalise import Columns, Part, factors_of
from filbert.compress.plan import Source
from filbert.compress.symmetry import symmetries
from filbert.core.files import write_whole
from filbert.models.gguf import check_split
from filbert.models.gguf_write import header_bytes, padded, placed
from filbert.models.store import in_place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compressed", type=Path)
    parser.add_argument("full", type=Path)
    parser.add_argument("--sigma", type=float, default=0.2)
    parser.add_argument("--noise", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    stored = in_place(asked.compressed)
    source = Source(stored, check_split(stored.parts))
    chance = []
    for symmetry in symmetries(source.headers):
        queries, values = symmetry.heads
        length = source.tensors[symmetry.columns[0]][0].shape[0] // queries * values
        squares = rng.lognormal(0, 2 * asked.sigma, (1, length)).astype(np.float32)
        chance.append(Columns(symmetry, squares, np.ones_like(squares)))
    factors = factors_of(chance, 0)
    places = placed((name, tensor.shape, "F32") for name, (tensor, _) in source.tensors.items())
    with write_whole(asked.full) as file:
        file.write(header_bytes(source.headers[0], {"general.file_type": 0}, places))
        for read in gguf.GGUFReader(asked.compressed).tensors:
            tensor = source.tensors[read.name][0]
            weights = gguf.dequantize(read.data, read.tensor_type).reshape(-1, tensor.shape[0])
            weights = factors.applied(tensor, Part(0, 0, weights))
            if len(tensor.shape) > 1:
                noise = rng.standard_normal(weights.shape, dtype=np.float32)
                weights = weights + noise * (asked.noise * np.linalg.norm(weights) / np.linalg.norm(noise))
            data = weights.astype(np.float32).tobytes()
            file.write(data.ljust(padded(len(data)), b"\0"))
    print(f"{asked.full}: {asked.full.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
