"""Jinja templates over documents. They are rendered in a child, since they come from people's files: one that never
ends or fills the memory costs the child, and the caller learns it in a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from filbert.core.errors import BadInput

SILENCE_S = 30.0  # for a batch of documents, which takes some milliseconds
BATCH = 100
MEMORY_BYTES = 1 << 30  # of the child
MOST_BYTES = 64 << 20  # of what a batch may come to
MOST_IN_ALL = 1 << 30
Reads = Literal["text", "number", "answer", "list"]
Rendered = Mapping[str, Any] | str


def render(
    templates: Mapping[str, tuple[str, Reads]], documents: Sequence[Mapping[str, Any]], *, where: Path
) -> list[Rendered]:
    """For each document the value of each role, or a sentence that says why there is none. Raises BadInput, which names
    the file `where`."""
    if not templates or not documents:
        return [{} for _ in documents]
    told = {
        "templates": {role: template for role, (template, _) in templates.items()},
        "reads": {role: reads for role, (_, reads) in templates.items()},
        "memory_bytes": MEMORY_BYTES,
        "caller": os.getpid(),
    }
    with _child() as child:
        exchange = _Exchange(child, where)
        with contextlib.suppress(OSError):  # of a child that is gone: asking tells
            exchange.send(told)
        return [
            value
            for start in range(0, len(documents), BATCH)
            for value in exchange.ask(documents[start : start + BATCH])
        ]


@contextlib.contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    """It is ended with the block, by Ctrl-C too, and ends by itself when the caller dies."""
    child = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("templates_main.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        child.kill()
        with contextlib.suppress(OSError):
            child.communicate()


class _Exchange:
    def __init__(self, child: subprocess.Popen[bytes], where: Path) -> None:
        assert child.stdin and child.stdout
        self._child, self._where = child, where
        self._to: IO[bytes] = child.stdin
        self._from: IO[bytes] = child.stdout
        self._left = MOST_IN_ALL

    def send(self, message: Any) -> None:
        self._to.write(json.dumps(message, default=str).encode() + b"\n")
        self._to.flush()

    def ask(self, documents: Sequence[Mapping[str, Any]]) -> list[Rendered]:
        deadline = time.monotonic() + SILENCE_S
        watch = threading.Timer(SILENCE_S, self._child.kill)
        watch.daemon = True
        watch.start()
        try:
            self.send({"documents": documents})
            line = self._from.readline(min(self._left, MOST_BYTES) + 1)
        except OSError:
            line = b""
        finally:
            watch.cancel()
        self._left -= len(line)
        if not line:
            raise self._bad(
                f"A template did not come to an end within {SILENCE_S:.0f} s."
                if time.monotonic() >= deadline
                else "What renders its templates died of them."
            )
        if not line.endswith(b"\n"):
            raise self._bad("Its templates write more text than any model reads.")
        answer = json.loads(line)
        if "refused" in answer:
            raise self._bad(answer["refused"])
        rendered: list[Rendered] = answer["rendered"]
        return rendered

    def _bad(self, why: str) -> BadInput:
        return BadInput(f"The templates of {self._where} cannot be used.", why=why, do="Mend them there.")
