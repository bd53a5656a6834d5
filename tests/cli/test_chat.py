"""`filbert chat` on pipes and on a terminal, with the real starter."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from emulator import Screen
from terminal import FILBERT, Run, Terminal

from filbert.cli.chat import step
from filbert.cli.chat_commands import Left
from filbert.cli.talk import Talk
from filbert.core.settings import Settings

GREEDY = ("--seed", "1", "--temperature", "0")
PARIS = "What is the capital of France? Answer in one sentence."

pytestmark = pytest.mark.usefixtures("stocked")


def test_a_question_is_answered(filbert: Run) -> None:
    done = filbert("chat", "-m", "smollm2:135m", *GREEDY, *PARIS.split())  # a question without quotes is one question
    assert done.returncode == 0
    assert "Paris" in done.stdout
    assert "context 8192 tokens" in done.stderr


def test_quiet_prints_the_answer_and_nothing_else(filbert: Run) -> None:
    done = filbert("chat", "-q", *GREEDY, PARIS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


def test_text_piped_in_is_added_to_the_prompt(filbert: Run) -> None:
    done = filbert("chat", *GREEDY, "Answer in one sentence.", input=b"What is the capital of France?")
    assert "Paris" in done.stdout


def test_an_answer_cut_at_its_limit_says_so(filbert: Run) -> None:
    done = filbert("chat", "--max-tokens", "3", "Tell me a story.")
    assert done.returncode == 0
    assert "cut at its token limit" in done.stderr


def test_an_answer_holds_to_a_json_schema(filbert: Run, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}))
    done = filbert("chat", "-q", *GREEDY, "--json-schema", str(schema), "How old is a dog of five years?")
    assert list(json.loads(done.stdout)) == ["age"]


def test_a_grammar_and_a_schema_at_once_are_refused(filbert: Run, tmp_path: Path) -> None:
    (tmp_path / "a.gbnf").write_text('root ::= "a"')
    (tmp_path / "a.json").write_text("{}")
    done = filbert("chat", "--grammar", str(tmp_path / "a.gbnf"), "--json-schema", str(tmp_path / "a.json"), "hi")
    assert (done.returncode, done.stderr) == (
        2,
        "error: An answer cannot hold to a grammar and a JSON schema. Leave one out.\n",
    )


def test_a_request_that_fails_prints_nothing_but_its_error(filbert: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.gbnf").write_text("root ::= (")
    done = filbert("chat", "-q", "--grammar", str(tmp_path / "broken.gbnf"), "hi")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_standard_input_that_is_no_utf8_is_refused_before_a_model_loads(filbert: Run) -> None:
    done = filbert("chat", "hi", input=b"caf\xe9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: Standard input is not UTF-8 text. Byte 0xe9 at 3.")


def test_an_argument_that_is_no_utf8_is_an_error_of_input(filbert: Run) -> None:
    done = filbert("chat", b"caf\xe9")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_nothing_to_answer_is_an_error_of_input(filbert: Run) -> None:
    done = filbert("chat")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is nothing to answer." in done.stderr


def test_a_reader_that_goes_away_ends_the_answer_quietly() -> None:
    chat = subprocess.Popen(
        [FILBERT, "chat", "-q", "Write a long story."],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert chat.stdout and chat.stderr
    assert len(chat.stdout.read(3)) == 3
    chat.stdout.close()
    assert chat.stderr.read() == b""
    assert chat.wait(60) == 141
    chat.stderr.close()


def test_ctrl_c_ends_a_single_answer_with_130() -> None:
    chat = subprocess.Popen(
        [FILBERT, "chat", "-q", "Write a very long story."],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert chat.stdout and chat.stderr
    chat.stdout.read(3)
    chat.send_signal(signal.SIGINT)
    said = chat.stderr.read()
    assert chat.wait(60) == 130
    assert said == b"Stopped.\n"
    chat.stdout.close()
    chat.stderr.close()


def test_a_name_that_nobody_knows_offers_the_nearest(filbert: Run) -> None:
    done = filbert("chat", "-m", "smolm2:135m", "hi")
    assert done.returncode == 2
    assert "There is no model smolm2:135m." in done.stderr
    assert "smollm2:135m" in done.stderr.replace("smolm2:135m", "", 1)


def test_a_folder_is_told_as_one(filbert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mods").mkdir()
    monkeypatch.chdir(tmp_path)
    done = filbert("chat", "-m", "mods", "hi")
    assert (done.returncode, done.stderr) == (
        2,
        "error: mods is a folder. `filbert import mods` finds models in it.\n",
    )
    assert "`filbert import FOLDER` finds models in a folder." in filbert("chat", "-m", "./mods", "hi").stderr


def test_what_a_prompt_could_not_fit_is_said(filbert: Run) -> None:
    done = filbert("chat", "--context", "256", "hi", input=b"word " * 2000)
    assert done.returncode == 2
    assert "The prompt has" in done.stderr


def test_offline_everything_installed_still_works(filbert: Run) -> None:
    assert "Paris" in filbert("chat", *GREEDY, PARIS, FILBERT_OFFLINE="1").stdout


@pytest.fixture
def talk(terminal: Callable[..., Terminal]) -> Terminal:
    """A conversation that waits for its first input."""
    talk = terminal("chat", *GREEDY, "--max-tokens", "60")
    talk.wait_for("/help lists what you can do.")
    talk.wait_for("> ")
    return talk


def test_a_conversation_remembers_and_ctrl_d_ends_it(talk: Terminal) -> None:
    talk.type(f"{PARIS}\n")
    talk.wait_for("Paris")
    talk.wait_for("\n> ")
    talk.type("/regen\n")
    talk.wait_for("Paris")
    talk.wait_for("\n> ")
    talk.type("\x04")
    assert talk.wait() == 0


@pytest.mark.slow
def test_the_commands_of_a_conversation(talk: Terminal) -> None:
    for typed, answer in (
        ("/help", "forget the conversation"),
        ("/stats", "Nothing was said yet."),
        ("/system", "There is no system message."),
        ("/system You are a nut.", "You are a nut."),
        ("/regen", "error: There is nothing to answer again."),
        ("/nonsense", "error: There is no /nonsense."),
        ("/rst", "Did you mean /set?"),
        ("/rest", "Did you mean /reset?"),
        ("/show", "/model tells the model"),
        ("/set", "top_p: not set"),
        ("/set temperature 0.1", "temperature: 0.1"),
        ("/set parameter top_k 3", "top_k: 3"),
        ("/set stop END", 'stop: ["END"]'),
        ("/set temperature hot", "error: temperature cannot be 'hot'. It takes 0 to 5."),
        ("/set temprature 1", "There is no temprature to set. Did you mean /set temperature?"),
        ("/set num_ctx 4096", "It is chosen when a model is loaded: `filbert chat --context`."),
        ("/set num_predict 9", "Did you mean /set max_tokens?"),
        ("/set nothink", "think: off"),
        ("/?", "forget the conversation"),
        ("help", "forget the conversation"),
        ("/quit now", "error: /quit takes nothing more. Type /quit alone."),
        ("/bin/sh is what?", "A question that begins with / needs a blank before it."),
        (" /quit", "\n"),
        ("hello", "\n"),
        ("/stats", "ended by"),
        ("/reset", "A new chat."),
        ("/clear", "Forgotten."),
        ("/system", "You are a nut."),
    ):
        talk.type(f"{typed}\n")
        talk.wait_for(f"{typed}\n")
        talk.wait_for(answer)
        talk.wait_for("> ")
    talk.type("exit\n")
    assert talk.wait() == 0


def test_a_text_of_several_lines_is_one_question(talk: Terminal) -> None:
    talk.type('"""\nWhat is the capital of France?\n')
    talk.wait_for("… ")
    talk.type('Answer in one sentence."""\n')
    talk.wait_for("Paris")
    talk.wait_for("\n> ")
    talk.type("/reset\n")
    talk.wait_for("> ")
    talk.type("What is the capital of France? \\\n")
    talk.wait_for("… ")
    talk.type("Answer in one sentence.\n")
    talk.wait_for("Paris")


def test_lines_that_are_pasted_are_one_input(screen: Callable[..., Screen]) -> None:
    talk = screen("chat", "-q")
    talk.wait_until(talk.waits)
    talk.type("\x1b[200~/system one\ntwo\x1b[201~")
    talk.wait_for("… two")
    talk.type("\r")
    talk.wait_for("one\ntwo\n")
    talk.ask("/system", "one\ntwo")
    talk.type("/exit\r")
    assert talk.wait() == 0


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_not_the_conversation(terminal: Callable[..., Terminal]) -> None:
    talk = terminal("chat", *GREEDY)
    talk.wait_for("> ")
    talk.type("Write a very long story about the sea.\n")
    talk.wait_for("sea.\n")
    talk.wait_for("the")
    talk.type("\x03")
    talk.wait_for("(stopped)")
    talk.wait_for("> ")
    talk.type("/stats\n")
    talk.wait_for("> ")
    time.sleep(0.5)  # a person does not type faster than the line editor gets ready
    talk.type("\x03")
    talk.wait_for("Ctrl-D or /quit leaves")
    talk.type(f"{PARIS}\n")
    talk.wait_for("Paris")
    talk.wait_for("\n> ")
    talk.type("/bye\n")
    assert talk.wait() == 0


def test_a_fault_of_ours_ends_a_step_and_not_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        """A talk that lacks what asking takes."""

        settings = Settings()

    step(cast(Talk, Broken()), "Hello")
    assert "fault of its own (AttributeError" in capsys.readouterr().err
    for way_out in ("/quit", "quit", "exit "):
        with pytest.raises(Left):
            step(cast(Talk, Broken()), way_out)
