"""`filbert report`: models side by side, with what was measured of them and how each number is made again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from terminal import Run

import make_tiny
from filbert.evaluate.model_report import Subject, page, to_json
from filbert.models import results, store
from filbert.models.store import StoredModel
from filbert.report.measurement import Kind, Named, Provenance, Result
from filbert.report.page import html, markdown

NAME = "smollm2:135m"
LICENCE = "<script>alert(1)</script>"


@pytest.fixture
def tiny(tmp_path: Path) -> StoredModel:
    return store.resolve(str(make_tiny.dense(tmp_path / "tiny.gguf", metadata={"general.license": LICENCE})))


@pytest.fixture
def other(tmp_path: Path) -> StoredModel:
    return store.resolve(str(make_tiny.quantised(tmp_path / "other.gguf", "Q4_0")))


def keep(
    stored: StoredModel, kind: Kind, about: str, *numbers: Named, settings: str = "", time: str = "2026-11-24T10:00:00"
) -> None:
    run = results.run_name(kind, about, settings, numbers[0].against)
    results.keep(Result(kind=kind, about=about, settings=settings, run=run, time=time, measurements=numbers))


def number(stored: StoredModel, name: str, value: float, unit: str = "", against: str = "a text", n: int = 50) -> Named:
    made_by = Provenance(
        stored.name, stored.sha256, "filbert 0.1.0, xllamacpp 1", "a laptop", 2, f"filbert make {name} | again"
    )
    interval = (0.9 * value, 1.1 * value)
    return Named(value=value, interval=interval, against=against, n=n, made_by=made_by, name=name, unit=unit)


def accuracy(stored: StoredModel, value: float, metric: str = "acc_norm", n: int = 50) -> Named:
    return number(stored, metric, value, "share", f"{n} of 900 items of here", n)


def of(*models: StoredModel) -> list[Subject]:
    return [Subject.of(stored) for stored in models]


def rows(text: str, section: str) -> list[list[str]]:
    """Of the Markdown table of a section, its head left out."""
    table = [line for line in text.partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines() if "|" in line]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def test_each_number_stands_with_its_interval_and_the_command_that_makes_it_again(tiny: StoredModel) -> None:
    keep(tiny, "perplexity", "a.txt", number(tiny, "perplexity", 20.0), settings="window 512")
    keep(tiny, "bench", "pp512", number(tiny, "prompt", 300.0, "tokens/s"), number(tiny, "memory", 2e8, "bytes"))
    text = markdown(page(of(tiny)))
    assert rows(text, "Perplexity of texts") == [["perplexity (a.txt, window 512)", "20 (95 %: 18 to 22, n 50) [1]"]]
    assert rows(text, "Speed and memory") == [
        ["prompt (pp512)", "300 tokens/s (95 %: 270 to 330, n 50) [2]"],
        ["memory (pp512)", "200 MB (95 %: 180 MB to 220 MB, n 50) [3]"],
    ]
    assert re.search(
        r"^1\. tiny.gguf \(sha256 \w{12}\) on a text; n 50; 2026-11-24, .*`filbert make perplexity \|", text, re.M
    )
    assert "3. tiny.gguf" in text
    assert "xllamacpp 1, a laptop, 2 threads" in text


def test_models_stand_side_by_side_where_the_same_was_asked_and_else_apart(
    tiny: StoredModel, other: StoredModel
) -> None:
    keep(tiny, "task", "piqa", accuracy(tiny, 0.5), settings="0-shot")
    keep(other, "task", "piqa", accuracy(other, 0.4), settings="0-shot")
    keep(other, "task", "piqa", accuracy(other, 0.3, n=20), settings="0-shot", time="2026-11-25")
    keep(other, "task", "piqa", accuracy(other, 0.2), settings="5-shot", time="2026-11-26")
    found = rows(markdown(page(of(tiny, other))), "Tasks")
    assert [[cell.partition(" (95")[0] for cell in row] for row in found] == [
        ["piqa, acc\\_norm (0-shot)", "50.0 %", "40.0 %"],
        ["piqa, acc\\_norm (0-shot)", "–", "30.0 %"],
        ["piqa, acc\\_norm (5-shot)", "–", "20.0 %"],
    ]


def test_of_two_models_one_has_no_results(tiny: StoredModel, other: StoredModel) -> None:
    keep(tiny, "perplexity", "a.txt", number(tiny, "perplexity", 20.0))
    text = markdown(page(of(tiny, other)))
    assert rows(text, "Perplexity of texts") == [["perplexity (a.txt)", "20 (95 %: 18 to 22, n 50) [1]", "–"]]
    commands = text.partition("## Not measured yet")[2]
    assert f"`filbert evaluate {other.name} --tasks paper --limit 200`" in commands
    assert f"`filbert perplexity {other.name} --text FILE.txt`" in commands
    assert f"`filbert perplexity {tiny.name} --text" not in commands
    assert f"`filbert fidelity {tiny.name} --base BASE --text FILE.txt`" in commands
    assert f"`filbert bench {tiny.name}`" in commands


def test_without_any_result_it_is_the_facts_and_the_commands(tiny: StoredModel) -> None:
    text = markdown(page(of(tiny)))
    assert re.findall("^## (.*)$", text, re.M) == ["What it is", "Not measured yet"]
    facts = {row[0]: row[1] for row in rows(text, "What it is")}
    assert facts["architecture"] == "llama"
    assert facts["sha256"] == tiny.sha256
    assert (facts["source"], facts["context"]) == ("tiny.gguf", "2,048")


def test_what_a_model_file_says_is_never_markup(tiny: StoredModel) -> None:
    assert "<script" not in html(page(of(tiny)))
    assert "&lt;script&gt;alert(1)" in html(page(of(tiny)))
    assert "\\<script\\>" in markdown(page(of(tiny)))
    assert to_json(of(tiny))["models"][0]["facts"]["licence"] == LICENCE


def test_json_holds_the_numbers_that_markdown_shows(tiny: StoredModel, other: StoredModel) -> None:
    keep(tiny, "task", "piqa", accuracy(tiny, 0.512), accuracy(tiny, 0.49, "acc"), settings="0-shot")
    keep(other, "fidelity", "a.txt", number(other, "mean KL divergence", 0.0213, "nats a token"))
    keep(
        other,
        "bench",
        "tg128",
        number(other, "memory", 2e8, "bytes"),
        number(other, "generation", 71.239, "tokens/s"),
        time="2026-11-25",
    )
    subjects = of(tiny, other)
    told = json.loads(json.dumps(to_json(subjects), allow_nan=False))
    text = markdown(page(subjects))
    numbers = [
        Named(**{**each, "interval": tuple(each["interval"]), "made_by": Provenance(**each["made_by"])})
        for model in told["models"]
        for result in model["measured"]
        for each in result["measurements"]
    ]
    assert [each.value for each in numbers] == [0.512, 0.49, 0.0213, 2e8, 71.239]
    shown = [
        cell
        for section in ("Tasks", "What compression cost", "Speed and memory")
        for row in rows(text, section)
        for cell in row[1:]
    ]
    assert [cell.rpartition(" [")[0] for cell in shown if cell != "–"] == [
        f"{each.told(each.value)} ({each.interval_told}n {each.n})" for each in numbers
    ]
    beside = {row["model"]: row for row in told["beside_the_paper"]}
    assert beside["tiny.gguf"]["piqa"] == pytest.approx(51.2)
    table = {row[0].strip("*"): row for row in rows(text, "Beside the paper")}
    assert len(table) == len(beside)
    assert table["tiny.gguf"][2] == f"**51.2 ±{100 * math.sqrt(0.512 * 0.488 / 49):.1f}**"
    assert (table["tiny.gguf"][-1], table["Dolly 6B"][-1]) == ("**measured**", "quoted: later page")
    for label, value in told["models"][0]["facts"].items():
        assert value is None or label in text


def test_what_is_no_number_breaks_neither_page_nor_json(tiny: StoredModel) -> None:
    odd = number(tiny, "perplexity", math.inf)
    keep(tiny, "perplexity", "a.txt", odd)
    assert rows(markdown(page(of(tiny))), "Perplexity of texts") == [["perplexity (a.txt)", "inf (n 50) [1]"]]
    assert "<figure>" not in html(page(of(tiny)))
    json.dumps(to_json(of(tiny)), allow_nan=False)


def test_the_paper_stands_beside_only_where_one_of_its_tasks_was_measured(tiny: StoredModel) -> None:
    keep(tiny, "task", "mine", accuracy(tiny, 0.5))
    assert "Beside the paper" not in markdown(page(of(tiny)))
    keep(tiny, "task", "piqa", accuracy(tiny, 0.25, n=10), settings="0-shot")
    keep(tiny, "task", "piqa", accuracy(tiny, 0.5), settings="0-shot")
    keep(tiny, "task", "boolq", accuracy(tiny, 0.75, "acc"), accuracy(tiny, 0.1), settings="0-shot")
    (ours,) = (row for row in to_json(of(tiny))["beside_the_paper"] if row["origin"] == "measured")
    assert (ours["piqa"], ours["boolq"], ours["average"]) == (50, 75, None)


# As a person runs it


@pytest.mark.slow
def test_a_file_is_written_by_its_suffix_and_markdown_is_printed_without(
    filbert: Run, stocked: Path, tiny: StoredModel, tmp_path: Path
) -> None:
    keep(store.resolve(NAME), "perplexity", "a.txt", number(store.resolve(NAME), "perplexity", 20.0))
    for suffix, begins in ((".html", "<!doctype html>"), (".md", "# smollm2"), (".JSON", "{")):
        out = tmp_path / f"report{suffix}"
        done = filbert("report", NAME, tiny.name, "--out", str(out))
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"{out} is written.\n"
        assert out.read_text("utf-8").startswith(begins)
    printed = filbert("report", NAME, tiny.name)
    assert printed.stdout == (tmp_path / "report.md").read_text("utf-8")
    assert "| perplexity (a.txt) | 20 (95 %: 18 to 22, n 50) [1] | – |" in printed.stdout
    (told,) = json.loads(filbert("list", "--json").stdout)
    assert told["measured"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "There is no model nothing."),
        (["nothing", "--out", "a.pdf"], ".pdf says no format of a report."),
        (["nothing", "--out", "report"], "Name a .html, .md or .json file."),
        ([], "needs MODEL"),
    ],
)
def test_what_cannot_be_is_a_sentence(filbert: Run, words: Sequence[str], told: str) -> None:
    done = filbert("report", *words)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.root
def test_a_full_disk_leaves_the_earlier_report(filbert: Run, tiny: StoredModel, small_disk: Path) -> None:
    out = small_disk / "report.html"
    out.write_text("earlier")
    with pytest.raises(OSError), (small_disk / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    done = filbert("report", tiny.name, "--out", str(out))
    assert done.returncode == 5
    assert "is full" in done.stderr
    assert out.read_text() == "earlier"
    assert {path.name for path in small_disk.iterdir()} == {"report.html", "full"}
