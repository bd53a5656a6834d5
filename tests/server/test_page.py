"""The programs of docs/server.md for OpenAI's client, run against a server. Other clients are not installed here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from running_server import WAIT_S, RunningServer

PAGE = Path(__file__).parent.parent.parent / "docs/server.md"
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PROGRAMS = [block for block in BLOCKS if block.startswith("from openai ")]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_programs_of_the_server_s_page_run(server: RunningServer, program: str) -> None:
    here = program.replace("http://127.0.0.1:4891", server.url)
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, timeout=WAIT_S)
    assert here != program and done.returncode == 0, done.stderr
    assert done.stdout.strip()
