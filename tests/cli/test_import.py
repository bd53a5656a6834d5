"""`filbert import`, in a pipe and on a terminal, with the real starter in other programs' folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Run, Terminal

NAME = "smollm2:135m-q4_1"


@pytest.fixture
def person(tmp_path: Path, starter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who has the starter in GPT4All, and a broken name in Ollama."""
    home = tmp_path / "person"
    gpt4all, ollama = home / ".cache/gpt4all", home / ".ollama/models/manifests/registry.ollama.ai/library/evil"
    gpt4all.mkdir(parents=True)
    ollama.mkdir(parents=True)
    (gpt4all / "SmolLM2-135M-Instruct.Q4_1.gguf").symlink_to(starter)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 1}
    (ollama / "1b").write_text(json.dumps({"layers": [layer]}))
    monkeypatch.setenv("HOME", str(home))
    for name in ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.mark.slow
def test_without_a_terminal_all_that_is_found_is_imported_and_told(filbert: Run, person: Path, home: Path) -> None:
    done = filbert("import")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == [NAME, "GPT4All", "98", "MB", "language", "to", "import"]
    assert "left out: evil:1b (Ollama): A digest in its manifest is not 64 hex digits." in done.stderr
    assert "1 model imported, 98 MB that stay where they are." in done.stderr
    assert not list(home.rglob("*.gguf"))
    assert filbert("import").stdout.splitlines()[1].endswith("here already")
    answer = filbert(
        "chat", "-q", "--temperature", "0", "--max-tokens", "8", "-m", "smollm2:135m", "What is two and two?"
    )
    assert answer.returncode == 0 and answer.stdout.strip()
    removed = filbert("rm", NAME)
    assert f"{NAME}: gone, 0 bytes freed." in removed.stderr and "stays where it is." in removed.stderr
    assert (person / ".cache/gpt4all/SmolLM2-135M-Instruct.Q4_1.gguf").exists()


def test_a_dry_run_shows_and_takes_nothing(filbert: Run, person: Path) -> None:
    facts = json.loads(filbert("import", "--dry-run", "--json").stdout)
    assert [(each["name"], each["state"], each["program"]) for each in facts] == [
        (NAME, "new", "GPT4All"), (None, "refused", "Ollama"),
    ]  # fmt: skip
    assert filbert("list", "--json").stdout.strip() == "[]"


@pytest.mark.usefixtures("person")
def test_on_a_terminal_it_shows_and_asks_once(filbert: Run, terminal: Callable[..., Terminal]) -> None:
    for answer, names in (("n", []), ("y", [NAME])):
        asked = terminal("import")
        assert NAME in asked.wait_for("Import 1 model?")
        asked.type(f"{answer}\n")
        assert asked.wait() == 0
        assert [model["name"] for model in json.loads(filbert("list", "--json").stdout)] == names


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_ctrl_d_at_the_question_import_nothing(
    filbert: Run, terminal: Callable[..., Terminal], key: str
) -> None:
    asked = terminal("import")
    asked.wait_for("Import 1 model?")
    asked.type(key)
    assert asked.wait(pressing=key) == 130
    assert "Stopped." in asked.seen
    assert filbert("list", "--json").stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.usefixtures("person")
def test_list_shows_the_hash_of_an_import_only_once_somebody_has_read_it(filbert: Run, starter: Path) -> None:
    filbert("import", str(starter), "--name", "mine")
    (before,) = json.loads(filbert("list", "--json").stdout)
    filbert("show", "mine")
    (after,) = json.loads(filbert("list", "--json").stdout)
    assert (before["name"], before["kind"], before["sha256"], len(after["sha256"])) == ("mine", "language", None, 64)


@pytest.mark.slow
def test_what_a_person_names_wrongly_is_told(filbert: Run, tmp_path: Path) -> None:
    (tmp_path / "note.gguf").write_text("hi")
    for arguments, status in (
        ((str(tmp_path / "note.gguf"),), 6),
        ((str(tmp_path / "missing.gguf"),), 2),
        (("--name", "x"), 2),
    ):
        done = filbert("import", *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert "error: " in done.stderr


def test_a_model_that_another_program_removed_is_told_in_the_list(filbert: Run, person: Path) -> None:
    filbert("import")
    (person / ".cache/gpt4all/SmolLM2-135M-Instruct.Q4_1.gguf").unlink()
    done = filbert("list")
    assert done.returncode == 0
    assert f"damaged: {NAME} cannot be used." in done.stderr
    assert filbert("show", NAME).returncode == 6
