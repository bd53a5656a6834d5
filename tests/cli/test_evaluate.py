"""`filbert evaluate` as a person runs it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from terminal import FILBERT

Run = Callable[..., CompletedProcess[str]]
NAME = "smollm2:135m"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"goal": "The capital of France is", "sol1": "Paris.", "sol2": "a green sofa of no use.", "label": 0},
        {"goal": "Two and two make", "sol1": "a green sofa of no use.", "sol2": "four.", "label": 1},
        {"goal": "Water is", "sol1": "a green sofa of no use.", "sol2": "wet.", "label": 0},
    ]
    (tmp_path / "piqa").mkdir()
    (tmp_path / "piqa/validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.slow
def test_a_model_is_measured_and_its_items_are_shown(filbert: Run, data: Path) -> None:
    asked = ("evaluate", NAME, "--tasks", "piqa", "--data", str(data))
    done = filbert(*asked)
    head, acc, norm, *_ = done.stdout.splitlines()
    assert head.split() == ["model", "task", "metric", "value", "±", "n", "run"]
    assert acc.split()[1:4] == ["piqa", "acc", "0.6667"]
    assert norm.split()[2] == "acc_norm"
    assert f"again: filbert evaluate {NAME}" in done.stdout
    assert "piqa: 100 % of 3 prompts" in done.stderr
    shown = filbert("evaluate", "show", acc.split()[-1], "--wrong").stdout
    assert "Water is" in shown
    assert "wet." in shown
    assert "capital" not in shown
    assert shown.splitlines()[-1] == "1 items"
    assert "piqa, 0-shot: acc 66.7 % (95 %: 1.3 to 100.0)" in filbert("show", NAME).stdout
    bounded = filbert(*asked, "--context", "256", "--threads", "1").stdout
    assert f"again: filbert evaluate {NAME}-q4_1 --context 256 --threads 1 --tasks piqa" in bounded
    told = json.loads(filbert(*asked, "--json").stdout)
    assert told["results"]["piqa"]["acc,none"] == pytest.approx(2 / 3)
    table = filbert(*asked, "--limit", "2", "--against", "paper", "--markdown").stdout
    assert "| piqa | acc | 1.0000 |" in table
    assert "| text-davinci-003 | 88.1 |" in table
    assert "| measured |" in table
    page = data / "paper.html"
    filbert(*asked, "--against", "paper", "--plot", str(page))
    assert 'tr class="marked"><th scope="row">smollm2:135m-q4_1' in page.read_text()
    assert f"filbert evaluate {NAME}-q4_1 --tasks piqa" in page.read_text()


@pytest.mark.slow
def test_a_model_and_its_base_are_compared_on_tasks(filbert: Run, data: Path) -> None:
    asked = ("fidelity", NAME, "--base", NAME, "--tasks", "piqa", "--data", str(data))
    head, acc, norm, note, *_, again = filbert(*asked).stdout.splitlines()
    assert head.split("  ")[0] == "task" and "McNemar" in note
    assert acc.split()[:5] == ["piqa", "acc", "0.6667", "0.6667", "+0.0000"]
    assert acc.split()[-4:] == ["0", "0", "1.000", "3"]
    assert norm.split()[1] == "acc_norm"
    full = f"{NAME}-q4_1"
    assert again == f"again: filbert fidelity {full} --base {full} --tasks piqa --data {data}"
    text = data / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 10)
    told = json.loads(filbert(*asked, "--text", str(text), "--window", "32", "--json").stdout)
    assert (told["kl_mean"]["value"], [change["metric"] for change in told["tasks"]]) == (0, ["acc", "acc_norm"])
    nothing = filbert(*asked[:4])
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "There is nothing to compare on. Add `--text FILE`" in nothing.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tasks", "nothing"], "There is no task nothing."),
        (["--tasks", "piqa", "--data", "nowhere"], "has no file for validation"),
        (["--tasks", "piqa", "--against", "gpt"], "There is no table gpt."),
        (["--tasks", "piqa", "--plot", "a.png"], "--plot draws the table of --against."),
        (["--tasks", "piqa", "--wrong"], "--wrong goes with `show RUN`."),
        (["--chat-template", "--server", "http://127.0.0.1:9"], "--chat-template and --adapters go with a model here."),
    ],
)
def test_what_cannot_be_is_a_sentence(filbert: Run, words: list[str], told: str) -> None:
    done = filbert("evaluate", NAME, *words)
    assert done.returncode == 2
    assert told in done.stderr


TASK = """
task: mine
dataset_path: json
dataset_kwargs: {data_files: {validation: mine.jsonl}}
validation_split: validation
output_type: multiple_choice
doc_to_text: TEXT
doc_to_target: label
doc_to_choice: "{{[sol1, sol2]}}"
metric_list: [{metric: acc}]
"""
ENDLESS = '"{% for i in range(10 ** 5) %}{% for j in range(10 ** 5) %}{% endfor %}{% endfor %}"'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("!function utils.process", "No Python from a file is run."),
        (ENDLESS, "A template did not come to an end within 30 s"),
    ],
    ids=["Python", "endless"],
)
def test_a_task_file_that_would_do_more_than_ask_is_refused(filbert: Run, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "utils.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef process(doc): return 'x'\n")
    (tmp_path / "mine.jsonl").write_text('{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}\n')
    file = tmp_path / "mine.yaml"
    file.write_text(TASK.replace("TEXT", text))
    done = filbert("evaluate", NAME, "--tasks", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "mine.yaml" in done.stderr and told in done.stderr
    assert not (tmp_path / "ran").exists()


def test_ctrl_c_ends_a_run_whose_server_says_nothing(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        asked = ("evaluate", "any", "--server", address, "--tasks", "piqa", "--data", str(data))
        child = subprocess.Popen([FILBERT, *asked], stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        connection, _ = silent.accept()  # it asks, and nobody answers
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
        connection.close()
    assert child.returncode == 130
    assert "Traceback" not in said
