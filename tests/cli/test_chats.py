from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from filbert.chat.history import History
from filbert.chat.record import Chat, Said
from filbert.core.messages import Message

FILBERT = Path(sys.executable).with_name("filbert")


def filbert(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(FILBERT), "chats", *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def told(home: Path) -> Chat:
    chat = Chat(title="Why is the sky blue?", model="smollm2:135m")
    with History() as history:
        history.begin(chat)
        asked = history.add(chat.id, Said(Message("user", "Why is the sky blue?")))
        history.add(chat.id, Said(Message("assistant", "It scatters light. \x1b[31m"), asked.number))
    return chat


@pytest.mark.slow
def test_chats_are_listed_searched_shown_and_renamed(told: Chat) -> None:
    assert told.id in filbert().stdout
    assert "[scat]ters" in filbert("search", "scat", "light").stdout
    assert "## Assistant\n\nIt scatters light." in filbert("show", told.id[:10]).stdout
    assert filbert("rename", told.id, "Of", "the", "sky").returncode == 0
    assert "Of the sky" in filbert().stdout
    assert filbert("rm", told.id).returncode == 0
    assert "Nothing was said yet" in filbert().stderr


@pytest.mark.slow
def test_what_is_exported_can_be_imported_into_another_history(
    told: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out.json"
    assert filbert("export", "--all", "-o", str(file)).returncode == 0
    assert json.loads(file.read_text("utf-8"))["chats"][0]["id"] == told.id
    monkeypatch.setenv("FILBERT_HOME", str(tmp_path / "other"))
    assert filbert("import", str(file)).stdout == "1 chats read, 2 messages new.\n"
    assert filbert("import", str(file)).stdout == "1 chats read, 0 messages new.\n"
    assert filbert("export", told.id).stdout.startswith("# Why is the sky blue?")


@pytest.mark.slow
def test_an_export_overwrites_nothing_unasked_and_makes_no_folder(told: Chat, tmp_path: Path) -> None:
    file = tmp_path / "precious.md"
    file.write_text("precious")
    refused = filbert("export", told.id, "-o", str(file))
    assert (refused.returncode, refused.stderr) == (
        2,
        f"error: {file} is there already. Give another name, or --force to overwrite it.\n",
    )
    assert file.read_text() == "precious"
    assert filbert("export", told.id, "-o", str(file), "--force").returncode == 0
    assert file.read_text("utf-8").startswith("# Why is the sky blue?")
    for output, says in (
        (str(tmp_path / "nodir" / "a.md"), "There is no folder"),
        (str(tmp_path), "is no plain file"),
        ("~nobody_here/a.md", "cannot be written"),
    ):
        done = filbert("export", told.id, "--force", "-o", output)
        assert (done.returncode, says in done.stderr) == (2, True)
    assert not (tmp_path / "nodir").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "nothing"), "There is no chat nothing."),
        (("export",), "not clear what to export"),
        (("export", "x", "--all"), "not clear what to export"),
        (("search", "?"), "nothing to look for"),
        (("import", "nowhere.json"), "cannot be read"),
        (("set-aside",), "no history file"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(home: Path, words: tuple[str, ...], says: str) -> None:
    done = filbert(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_history_is_told_and_set_aside(told: Chat, home: Path) -> None:
    (home / "chats.db").write_bytes(b"nonsense" * 1000)
    done = filbert()
    assert (done.returncode, "filbert chats set-aside" in done.stderr) == (5, True)
    assert "damaged" in filbert("set-aside").stdout
    assert "Nothing was said yet" in filbert().stderr
