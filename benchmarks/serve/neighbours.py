"""What the benchmarks here have in common: a server at its shipped settings, long fresh prompts, endless answers."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from clients import NAMES

MODEL = "smollm2:135m"
CONTEXT = ("--context", "8192")
PROMPT_WORDS = 3550  # with the chat template 3,600 tokens of the starter's, one a word and a few of two
FOR_EVER = 'root ::= "x" root'  # a grammar that no answer ends


@contextmanager
def serving(*flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server, without `/v1`, and its process."""
    command = [sys.executable, "-m", "filbert", "serve", "--port", "0", "-m", MODEL, *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        address = next(line for line in process.stderr if line.startswith("http://")).split("/v1")[0]
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def long_prompt() -> str:
    """Never the same twice: the engine remembers prompts."""
    return " ".join(random.choice(NAMES) for _ in range(PROMPT_WORDS))
