"""A real `filbert serve`, out of its own environment."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
FILBERT = Path(os.environ.get("FILBERT_BIN", CHECKOUT / ".venv/bin")) / "filbert"


@contextmanager
def served(home: Path, *flags: str) -> Iterator[str]:
    """The address of a server over the store in that folder."""
    command = [str(FILBERT), "serve", "--port", "0", "--context", "4096", *flags]
    environment = {**os.environ, "FILBERT_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield _address(server)
        finally:
            server.terminate()
            server.communicate(timeout=60)


def _address(server: subprocess.Popen[str]) -> str:
    heard = []
    assert server.stderr
    for line in server.stderr:
        heard.append(line)
        if match := re.search(r"(http://127\.0\.0\.1:\d+)/v1", line):
            return match[1]
    raise AssertionError(f"the server ended: {''.join(heard)}")
