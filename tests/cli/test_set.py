"""`filbert set` as people run it, and how list, show, rm and chat tell of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import FILBERT, Run, Terminal

pytestmark = pytest.mark.usefixtures("stocked")
STARTER = "smollm2:135m-q4_1"


@pytest.mark.slow
def test_a_name_of_ones_own_is_set_listed_shown_used_and_removed(filbert: Run) -> None:
    done = filbert(
        "set", "gpt-4o", "--from", "smollm2:135m", "context=512", "temperature=0", "max_tokens=4", "system=Hi"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "gpt-4o",
        f"  stands for    {STARTER}",
        "  context       512",
        "  temperature   0.0",
        "  max_tokens    4",
        "  system        Hi",
    ]
    assert filbert("show", "gpt-4o").stdout.splitlines()[0].split() == ["stands", "for", STARTER]
    listed = filbert("list").stdout
    assert [line.split()[-2:] for line in listed.splitlines() if line.startswith("gpt-4o")] == [["→", STARTER]]
    own, starter = json.loads(filbert("list", "--json").stdout)
    assert (own["name"], own["stands_for"], starter["stands_for"]) == ("gpt-4o", STARTER, "")
    assert done.stdout in filbert("show", "gpt-4o").stdout
    assert json.loads(filbert("show", "gpt-4o", "--json").stdout)["preset"]["system"] == "Hi"
    asked = filbert("chat", "-m", "gpt-4o", "Tell me a story.")
    assert f"gpt-4o ({STARTER}): context 512 tokens" in asked.stderr
    assert "cut at its token limit" in asked.stderr
    assert filbert("rm", "gpt-4o").returncode == 0
    assert filbert("show", STARTER).returncode == 0
    assert filbert("show", "gpt-4o").returncode == 2


@pytest.mark.slow
def test_a_flag_and_a_variable_beat_what_is_kept(filbert: Run) -> None:
    filbert("set", "smollm2:135m", "context=512", "max_tokens=3")
    asked = filbert("chat", "--context", "256", "Hi", FILBERT_SAMPLING_MAX_TOKENS="1")
    assert "context 256 tokens" in asked.stderr
    assert len(asked.stdout.split()) <= 1
    assert "context 512 tokens" in filbert("chat", "Hi").stderr


def test_how_long_a_model_stays_is_set_shown_and_taken_away(filbert: Run) -> None:
    row = "  keep_alive    3,600 s"
    assert filbert("set", "smollm2:135m", "keep_alive=1h").stdout.splitlines() == [STARTER, row]
    assert row in filbert("show", STARTER).stdout.splitlines()
    assert "  keep_alive    for good" in filbert("set", STARTER, "keep_alive=-1").stdout.splitlines()
    assert filbert("set", STARTER, "keep_alive=").stdout.splitlines() == [STARTER]
    wrong = filbert("set", STARTER, "--keep-alive", "soon")
    assert (wrong.returncode, "Write keep_alive=soon." in wrong.stderr) == (2, True)


def test_texts_come_from_files(filbert: Run, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("One\ntwo")
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    done = filbert(
        "set", "mine", "of=smollm2:135m", f"system=@{tmp_path}/system.txt", f"json_schema=@{tmp_path}/schema.json"
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads(filbert("show", "mine", "--json").stdout)["preset"]
    assert (kept["system"], kept["sampling"]) == ("One\ntwo", {"json_schema": {"type": "object"}})
    assert filbert("set", "mine", "system=@none.txt").stderr.startswith("error: none.txt cannot be read.")


def test_a_modelfile_names_once_what_means_nothing_here(filbert: Run, tmp_path: Path) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text("FROM smollm2:135m\nPARAMETER mirostat 2\nPARAMETER mirostat 1\nPARAMETER num_ctx 512\n")
    done = filbert("set", "mine", "--modelfile", str(modelfile))
    assert (done.returncode, done.stderr) == (0, "Not read, for they mean nothing here: mirostat.\n")
    assert "context       512" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("mine",), "There is nothing to set."),
        (("mine", "context"), "context is no KEY=VALUE."),
        (("mine", "--from", "nothing:1b"), "There is no model nothing:1b."),
        (
            ("mine", "context=1", "system=Be brief."),
            "There is no model mine. A new name says what it stands for: "
            "`filbert set mine of=MODEL context=1 'system=Be brief.'`.",
        ),
        (("qwen3:4b", "context=1"), "qwen3:4b is not here yet. `filbert pull qwen3:4b` gets it."),
        (("./x.gguf", "context=1"), "There is no model file at"),
        (("smollm2:135m", "contxt=1"), "A preset has no key contxt. Did you mean context?"),
    ],
)
def test_what_cannot_be_set_is_a_sentence(filbert: Run, arguments: tuple[str, ...], why: str) -> None:
    done = filbert("set", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {why}")


def test_a_name_is_listed_with_the_licence_of_its_model(filbert: Run, starter: Path, tmp_path: Path) -> None:
    filbert("set", "named", "of=smollm2:135m")
    filbert("set", "lying", f"of={starter}")
    (tmp_path / "Modelfile").write_text(f'FROM {starter}\nLICENSE """My licence\nin many lines"""\n')
    filbert("set", "said", "--modelfile", str(tmp_path / "Modelfile"))
    head, *rows = (re.split(" {2,}", line.strip()) for line in filbert("list").stdout.splitlines())
    assert {row[0]: row[head.index("licence")] for row in rows} == {
        "lying": "apache-2.0",
        "named": "apache-2.0",
        "said": "My licence",
        STARTER: "apache-2.0",
    }


def test_a_model_that_names_stand_for_is_deleted_by_force_only(filbert: Run) -> None:
    filbert("set", "mine", "of=smollm2:135m")
    kept = filbert("rm", "smollm2:135m")
    assert (kept.returncode, kept.stderr) == (
        2,
        "error: smollm2:135m stays. mine stands for it. --force deletes it all the same.\n",
    )
    assert filbert("show", STARTER).returncode == 0
    assert filbert("rm", "smollm2:135m", "--force").returncode == 0
    told = filbert("list").stderr
    assert f"its model is gone: mine stands for {STARTER}, which is not here any more. `filbert pull smollm2" in told
    assert "damaged" not in told and "No models yet." not in told


def test_names_that_are_deleted_with_their_model_are_not_asked_for(filbert: Run) -> None:
    filbert("set", "mine", "of=smollm2:135m")
    assert filbert("rm", "smollm2:135m", "mine").returncode == 0
    assert filbert("list").stderr.startswith("No models yet.")


@pytest.mark.slow
def test_a_person_is_asked_before_names_lose_their_model(filbert: Run, terminal: Callable[..., Terminal]) -> None:
    filbert("set", "mine", "of=smollm2:135m")
    filbert("set", "yours", "of=mine")
    for answer, status in (("\n", 0), ("y\n", 2)):
        asked = terminal("rm", "smollm2:135m")
        asked.wait_for("mine, yours stand for it. Delete smollm2:135m all the same? [y/N]")
        asked.type(answer)
        assert asked.wait() == 0
        assert filbert("show", STARTER).returncode == status


def test_processes_that_set_one_name_at_once_lose_nothing(filbert: Run) -> None:
    filbert("set", "mine", "--from", "smollm2:135m")
    values = ["top_k=3", "top_p=0.5", "min_p=0.1", "context=512"]
    started = [
        subprocess.Popen([FILBERT, "set", "mine", value], env=os.environ, stdout=subprocess.PIPE) for value in values
    ]
    assert [process.wait(60) for process in started] == [0] * len(values)
    for process in started:
        process.communicate()
    kept = json.loads(filbert("show", "mine", "--json").stdout)["preset"]
    assert {**kept["load"], **kept["sampling"]} == {"top_k": 3, "top_p": 0.5, "min_p": 0.1, "context": 512}
