"""`make run PROMPT=…`: what was typed reaches Filbert, and nothing of it is executed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
ECHO = "#!/bin/sh\nfor argument; do printf '%s\\0' \"$argument\"; done\n"
PROMPTS = [
    'say "hi", it\'s late',
    "`touch harm` $(touch harm)",
    "$HOME $$ $(shell touch harm)",
    "--version",
    "two\nlines",
]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What `filbert` is called with; a program that tells its arguments stands in its place."""
    (tmp_path / "filbert").write_text(ECHO)
    (tmp_path / "filbert").chmod(0o755)
    monkeypatch.chdir(tmp_path)

    def asked(*variables: str, **environment: str) -> list[str]:
        command = ["make", "--silent", "-f", CHECKOUT / "Makefile", "--old-file=.venv/base", "run", f"BIN={tmp_path}"]
        done = subprocess.run(
            [*command, *variables], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.split("\0")[:-1]

    return asked


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_arrives_as_it_was_typed(arguments, tmp_path: Path, prompt: str) -> None:
    assert arguments(f"PROMPT={prompt}") == ["chat", "--", prompt]
    assert arguments(PROMPT=prompt) == ["chat", "--", prompt]
    assert not (tmp_path / "harm").exists()


def test_without_a_prompt_there_is_one(arguments) -> None:
    assert "France" in arguments()[-1]
