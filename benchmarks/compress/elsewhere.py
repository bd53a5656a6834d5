"""Whether files of `filbert compress` run elsewhere: llama-cpp-python loads each, and says how likely a text is.

    make .peer/built
    .peer/bin/python benchmarks/compress/elsewhere.py FILE… [--filbert .venv/bin/filbert]

A line a file: the keys of ours in its header, how likely a text is there and by `filbert score`, and what it writes
there after the text's beginning. Both run llama.cpp, of other versions and compiled otherwise, and round what they
multiply compressed weights with to 8 bits: the two numbers are near one another, not the same, and as far apart for
files of others. It ends with 1 if they are more than 0.05 nats a token apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np
from llama_cpp import Llama

PROMPT = "The capital of France"
ENDING = (
    " is Paris, which lies on the Seine. Two thousand years ago it was a village on an island in that river. Today "
    "more than two million people live within its walls, and ten million around them. Trains reach every large town "
    "of the country from there in a few hours. Visitors come for its museums, its bread and its evenings, and complain "
    "about the prices. In winter it rains more often than it snows, and in August half of the shops are closed."
)
FAR = 0.05  # nats a token


def there(model: Llama) -> float:
    """Nats a token."""
    prompt = model.tokenize(PROMPT.encode())
    tokens = prompt + model.tokenize(ENDING.encode(), add_bos=False)
    model.reset()
    model.eval(tokens)
    logits = np.array(model.scores[: len(tokens) - 1], np.float64)
    likely = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return float(np.mean([likely[at - 1, tokens[at]] for at in range(len(prompt), len(tokens))]))


def here(filbert: str, file: str) -> float:
    """The same."""
    said = subprocess.run(
        [filbert, "score", "--quiet", "-m", file, PROMPT, ENDING], check=True, capture_output=True, text=True
    )
    _, line = said.stdout.splitlines()
    nats, tokens, *_ = line.split()
    return float(nats) / int(tokens)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--filbert", default=".venv/bin/filbert")
    asked, apart = parser.parse_args(), False
    for file in asked.files:
        model = Llama(file, n_ctx=256, logits_all=True, verbose=False)
        keys = sum(key.startswith("filbert.") for key in model.metadata)
        ours, theirs = here(asked.filbert, file), there(model)
        model.reset()
        written = model(PROMPT, max_tokens=8, temperature=0)["choices"][0]["text"]
        print(
            f"{file}: {keys} keys of ours, {theirs:.4f} nats a token there, {ours:.4f} here; {PROMPT}{written!r}",
            flush=True,
        )
        apart |= abs(ours - theirs) > FAR
    return int(apart)


if __name__ == "__main__":
    sys.exit(main())
