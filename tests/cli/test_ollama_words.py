"""What Ollama's people type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from terminal import Run


@pytest.mark.slow
def test_the_names_of_ollamas_commands_are_ours(filbert: Run, stocked: Path, tmp_path: Path) -> None:
    asked = ("-q", "--no-history", "--temp", "0", "--ctx", "1024", "--max-tokens", "16", "What is 2+2?")
    answer = filbert("run", "smollm2:135m", *asked)
    assert answer.returncode == 0 and answer.stdout.strip()
    assert answer.stdout == filbert("chat", "-m", "smollm2:135m", *asked).stdout
    assert filbert("ls").stdout == filbert("list").stdout
    (tmp_path / "Modelfile").write_text("FROM smollm2:135m\nPARAMETER num_ctx 2048\n")
    made = filbert("create", "mario", "-f", str(tmp_path / "Modelfile"))
    assert made.returncode == 0 and "context       2048" in made.stdout
    assert made.stdout == filbert("set", "mario", "--modelfile", str(tmp_path / "Modelfile")).stdout
    assert filbert("chats", "list", "--limit", "3").stderr == filbert("chats").stderr == "Nothing was said yet.\n"


def test_create_tells_which_modelfile_it_takes(
    filbert: Run, stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert filbert("create", "mario").stderr == "error: There is no Modelfile in this folder. Name one with -f FILE.\n"
    (tmp_path / "Modelfile").write_text("FROM smollm2:135m\n")
    assert filbert("create", "mario").stderr == "Reading the Modelfile in this folder; -f names another.\n"


@pytest.mark.slow
def test_other_words_lead_to_ours(filbert: Run) -> None:
    assert filbert("version").stdout == filbert("--version").stdout
    assert filbert("help").stdout == filbert("-h").stdout
    assert filbert("help", "chats", "show").stdout == filbert("chats", "show", "-h").stdout
    assert "`filbert set mario of=smollm2:135m` gives another." in filbert("cp", "smollm2:135m", "mario").stderr
    assert "`filbert set NEW of=OLD`" in filbert("cp").stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("delete x", "rm"),
        ("rnu", "run"),
        ("runn", "run"),
        ("chats lst", "list"),
        ("download x", "pull"),
        ("hlep", "help"),
    ],
)
def test_a_word_beside_a_command_names_it(filbert: Run, typed: str, meant: str) -> None:
    done = filbert(*typed.split())
    command = typed.removesuffix(" x")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: There is no command `filbert {command}`. Did you mean {meant}?\n",
    )


def test_they_are_not_in_the_help(filbert: Run) -> None:
    assert not re.search("^  (run|ls|create) ", filbert("-h").stdout, re.MULTILINE)
    assert "As Ollama has them: run, ls, create." in " ".join(filbert("-h").stdout.split())
    assert "NAME" in filbert("run", "-h").stdout.splitlines()[0]
