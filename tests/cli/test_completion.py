"""What a real bash completes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import FILBERT, Run, Terminal

from filbert.chat.history import History
from filbert.chat.record import Chat
from filbert.cli.completion import joined


@pytest.fixture
def bash(stocked: Path) -> Iterator[Terminal]:
    path = f"PATH={Path(FILBERT).parent}{os.pathsep}{os.environ['PATH']}"
    shell = Terminal("env", path, "PS1=ready>", "bash", "--norc", "--noprofile", "-i")
    shell.wait_for("ready>")
    shell.type("source <(_FILBERT_COMPLETE=source_bash filbert); PS1=go'>'\n")
    shell.wait_for("go>")
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("filbert conf", "ig "),
        ("filbert chat --tempe", "rature "),
        ("filbert rm smol", "lm2:135m-q4_1 "),
        ("filbert rm smollm2:", "135m-q4_1 "),
        ("filbert show smollm2:13", "5m-q4_1 "),
        ("filbert chat -m smollm2:1", "35m-q4_1 "),
        ("filbert pull gemma3:1b-", "q4_k_m "),
        ("filbert config set load.cont", "ext "),
        ("filbert config unset down", "load.connections "),
    ],
)
def test_commands_flags_and_arguments_are_completed(bash: Terminal, stocked: Path, typed: str, completed: str) -> None:
    (stocked / "config.toml").write_text("[download]\nconnections = 2\n")
    bash.type(f"{typed}\t")
    bash.wait_for(f"{typed}{completed}")


def test_the_id_of_a_chat_is_completed(filbert: Run, home: Path) -> None:
    nothing = {"_FILBERT_COMPLETE": "complete_bash", "COMP_WORDS": "filbert\nchat\n--resume\n", "COMP_CWORD": "3"}
    assert (filbert(**nothing).stdout.strip(), (home / "chats.db").exists()) == ("", False)
    chat = Chat(title="Of the sky")
    with History() as history:
        history.begin(chat)
    words = f"filbert\nchat\n--resume\n{chat.id[:4]}"
    asked = {"_FILBERT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    assert filbert(**asked).stdout == f"{chat.id}\n"
    (home / "chats.db").write_bytes(b"no database" * 100)
    done = filbert(**asked)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("words", [{}, {"COMP_WORDS": "filbert", "COMP_CWORD": "9"}, {"COMP_CWORD": "x"}])
def test_a_completion_that_is_not_bashs_is_a_sentence(filbert: Run, words: dict[str, str]) -> None:
    done = filbert(_FILBERT_COMPLETE="complete_bash", **words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: What bash completes is not known. Leave _FILBERT_COMPLETE to bash.\n"


def test_what_bash_broke_is_joined_again() -> None:
    assert joined(["filbert", "rm", "smollm2", ":", "13"], 4) == (["filbert", "rm", "smollm2:13"], 2, "smollm2:")
    assert joined(["filbert", "rm", "smollm2", ":"], 3) == (["filbert", "rm", "smollm2:"], 2, "smollm2:")
    assert joined(["filbert", "rm", "a", ":", "b", ""], 5) == (["filbert", "rm", "a:b", ""], 3, "")
    assert joined(["filbert", "pull", "pypi", ":", "x", "==", "1"], 6)[0][-1] == "pypi:x==1"
    assert joined(["filbert", "chat", "--model", "=", "a", ":", "b"], 6)[0] == [
        "filbert",
        "chat",
        "--model",
        "=",
        "a:b",
    ]
