"""Write down the bytes that llama-quantize makes: `python tools/record_quantised.py LLAMA_QUANTIZE STARTER`.

LLAMA_QUANTIZE is built from the engine's own sources (thirdparty/llama.cpp in its source archive). Two tensors of the
starter's first block become each type, without an importance matrix where they may, and with one;
tests/golden/quantised.json keeps the beginning of the sha256 of each.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from filbert.compress.recipe import QUANTISED, fallback  # noqa: E402
from filbert.models.gguf import read_header  # noqa: E402
from requantise import first_block  # noqa: E402
from shapes import some_imatrix  # noqa: E402

LENGTHS = {"blk.0.attn_q.weight": 576, "blk.0.ffn_down.weight": 1536}


def main(program: str, starter: str) -> None:
    found: dict[str, dict[str, dict[str, str]]] = {"plain": {}, "imatrix": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = first_block(Path(starter), folder / "block.gguf")
        imatrix = some_imatrix(folder / "imatrix.gguf", LENGTHS)
        for kind in sorted(QUANTISED):
            for how, words in (("plain", []), ("imatrix", ["--imatrix", str(imatrix)])):
                if made := _made(program, words, model, kind, folder / "out.gguf"):
                    found[how][kind] = made
    file = CHECKOUT / "tests/golden/quantised.json"
    file.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")


def _made(program: str, words: list[str], model: Path, kind: str, out: Path) -> dict[str, str]:
    """Nothing where llama-quantize refuses."""
    names = [name for name, length in LENGTHS.items() if fallback(kind, length) != "F16"]  # it knows no way out there
    types = [word for name in names for word in ("--tensor-type", f"{name}={kind.lower()}")]
    done = subprocess.run([program, *words, *types, str(model), str(out), "Q8_0"], capture_output=True, text=True)
    if done.returncode:
        print(f"{kind} {words[:1]}: {(done.stdout + done.stderr)[-300:]}", file=sys.stderr)
        return {}
    data = out.read_bytes()
    return {
        tensor.name: hashlib.sha256(data[tensor.offset :][: tensor.size_bytes]).hexdigest()[:16]
        for tensor in read_header(out).tensors
        if tensor.name in names
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
