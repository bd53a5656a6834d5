"""Write down which types llama-quantize chooses: `python tools/record_tensor_types.py LLAMA_QUANTIZE`.

LLAMA_QUANTIZE is built from the engine's own sources (thirdparty/llama.cpp in its source archive). Of each family of
tests/shapes.py it is asked, without writing a file, which type each tensor gets in each mix, without an importance
matrix and with one; tests/golden/tensor_types.json.gz keeps the commonest type as "*", the tensors that have another,
and nothing where llama-quantize refuses.
"""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from filbert.compress.recipe import FULL, stock_names  # noqa: E402
from shapes import FAMILIES, some_imatrix  # noqa: E402

LINE = re.compile(r"\] (\S+) +- \[.*?\], type = +(\w+), size = .*?(?:\((\w+)\))?$")


def main(program: str) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as name:
        imatrix = some_imatrix(Path(name) / "imatrix.gguf", {"other": 32})  # that there is one is what mixes ask
        for family, shape in FAMILIES.items():
            model = shape.write(Path(name) / f"{family}.gguf")
            mixes = [mix for mix in stock_names() if mix not in FULL]
            made = {mix: types(program, model, mix) for mix in mixes}
            made |= {f"{mix}+imatrix": types(program, model, mix, imatrix) for mix in mixes}
            found[family] = {mix: chosen for mix, chosen in made.items() if chosen is not None}
            model.unlink()
    file = CHECKOUT / "tests/golden/tensor_types.json.gz"
    file.write_bytes(gzip.compress(json.dumps(found, sort_keys=True).encode(), mtime=0))


def types(program: str, model: Path, mix: str, imatrix: Path | None = None) -> dict[str, str] | None:
    """None where it aborts, as on projectors with mixes that ask how many heads share keys."""
    words = [program, *(["--imatrix", str(imatrix)] if imatrix else []), "--dry-run", str(model), mix]
    done = subprocess.run(words, capture_output=True, text=True)
    if "no tensor type fallback is defined" in done.stdout + done.stderr:
        return {}
    if done.returncode == -signal.SIGABRT:
        return None
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    chosen = {}
    for line in (done.stdout + done.stderr).splitlines():
        if match := LINE.search(line):
            chosen[match[1]] = (match[3] or match[2]).upper()
    common = Counter(kind for kind in chosen.values() if kind != "F32").most_common(1)[0][0]
    return {"*": common, **{name: kind for name, kind in sorted(chosen.items()) if kind not in (common, "F32")}}


if __name__ == "__main__":
    main(*sys.argv[1:])
