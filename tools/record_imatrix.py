"""Write down what llama-imatrix sums: `python tools/record_imatrix.py LLAMA_IMATRIX STARTER`.

LLAMA_IMATRIX is built from the engine's own sources (thirdparty/llama.cpp in its source archive). The starter at F16
reads the text of tests/compress/conftest.py in windows of 256 tokens; tests/golden/imatrix.json keeps, of each matrix,
the mean and the largest of the sums, and how many tokens they are of.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf

CHECKOUT = Path(__file__).parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from requantise import uncompressed  # noqa: E402

CHARACTERS, WINDOW = 6000, 256


def main(program: str, starter: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        text, model, out = (Path(name) / file for file in ("text", "full.gguf", "out.gguf"))
        text.write_text((CHECKOUT / "tests/data/war-and-peace.txt").read_text("utf-8")[:CHARACTERS], "utf-8")
        uncompressed(Path(starter), model)
        sizes = ["-c", str(WINDOW), "-b", str(WINDOW), "-ub", str(WINDOW)]
        words = [program, "-m", str(model), "-f", str(text), "-o", str(out), *sizes, "--process-output", "--no-ppl"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out).tensors}
        names = sorted(name.removesuffix(".counts") for name in found if name.endswith(".counts"))
        golden = {
            name: [
                float(found[f"{name}.in_sum2"].mean()),
                float(found[f"{name}.in_sum2"].max()),
                float(found[f"{name}.counts"].reshape(-1)[0]),
            ]
            for name in names
        }
    (CHECKOUT / "tests/golden/imatrix.json").write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
