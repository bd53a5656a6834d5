"""Models on tasks: what is scored, kept and counted, and what a kill, a damaged file and a full context leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import make_tiny
from filbert.core import paths
from filbert.core.errors import BadInput, DiskFull, StoreBusy
from filbert.core.files import locked
from filbert.core.jobs import finish
from filbert.engine.scorer import Scored, Scorer
from filbert.evaluate.items import Item, items
from filbert.evaluate.kept_runs import items_of
from filbert.evaluate.result import TaskResult, graded
from filbert.evaluate.run import evaluate_job, prepared
from filbert.evaluate.task import load
from filbert.models import results
from filbert.models.store import in_place
from running import until

WORDS = ["red", "green", "blue", "old", "new", "tall", "wide", "warm", "cold", "round"]
DOCUMENTS = [
    {
        "id": str(i),
        "question": f"Which of these {WORDS[i % 10]} things is number {i}?",
        "choices": {
            "text": [f"{word} {i}" for word in WORDS[: 2 + i % 4]],
            "label": ["A", "B", "C", "D", "E"][: 2 + i % 4],
        },
        "answerKey": "AB"[i % 2],
    }
    for i in range(40)
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FILBERT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Scorer]:
    with Scorer(in_place(make_tiny.dense(tmp_path / "tiny.gguf")), threads=1) as scorer:
        yield scorer


def evaluated(scorer: Scorer, documents: Sequence[dict[str, Any]] = DOCUMENTS) -> TaskResult:
    task = load("arc_easy")
    return finish(evaluate_job(scorer, task, items(task, documents), len(documents), "here", "filbert evaluate"))


def kept_folder() -> Path:
    (folder,) = (file.parent for file in paths.evaluations_folder().glob("*/*/items.parquet"))
    return folder


def test_what_is_kept_is_what_each_choice_gets_alone_and_the_metrics_follow_from_it(tiny: Scorer) -> None:
    result = evaluated(tiny)
    rows = items_of(result.run)
    assert [row["index"] for row in rows] == list(range(40))
    for row, item in zip(rows, items(load("arc_easy"), DOCUMENTS), strict=True):
        alone = [tiny.score(asked.prefix, asked.endings)[0] for asked in prepared(tiny, [item]).asked]
        assert row["loglikelihoods"][0] == pytest.approx(alone[0].loglikelihood, abs=0.05)
        assert (row["choices"], row["gold"]) == (list(item.choices), item.gold)
    right = [int(np.argmax(row["loglikelihoods"])) == row["gold"] for row in rows]
    lengths = [[len(choice) for choice in row["choices"]] for row in rows]
    norm = [np.argmax(np.array(row["loglikelihoods"]) / n) == row["gold"] for row, n in zip(rows, lengths, strict=True)]
    acc, acc_norm = result.metrics
    assert (acc.name, acc.value, acc.n) == ("acc", np.mean(right), 40)
    assert (acc_norm.name, acc_norm.value) == ("acc_norm", np.mean(norm))
    assert acc.standard_error == pytest.approx(np.std(right, ddof=1) / np.sqrt(40))


def test_a_finished_run_is_not_scored_again_and_gives_the_same_bits(tiny: Scorer) -> None:
    first = evaluated(tiny)
    before = tiny.n_decoded
    assert evaluated(tiny) == first
    assert tiny.n_decoded == before
    rows = items_of(first.run)
    shutil.rmtree(paths.evaluations_folder())
    assert evaluated(tiny) == first
    assert items_of(first.run) == rows


def test_a_run_goes_on_behind_a_line_that_a_kill_tore(tiny: Scorer) -> None:
    first = evaluated(tiny)
    rows, log = items_of(first.run), kept_folder() / "scored.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) > 2
    log.write_bytes(lines[0] + lines[1][:-20])
    (log.parent / "items.parquet").unlink()
    told = tiny.n_decoded
    assert evaluated(tiny) == first
    assert 0 < tiny.n_decoded - told < told
    assert items_of(first.run) == rows
    assert sorted(log.read_bytes().splitlines(keepends=True)) == sorted(lines)


RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from contextlib import suppress
from pathlib import Path
import filbert
from filbert.engine.scorer import Scorer
from filbert.models.store import in_place
from test_run import DOCUMENTS, evaluated
with Scorer(in_place(Path(sys.argv[1])), threads=1) as scorer:
    print(evaluated(scorer, DOCUMENTS * int(sys.argv[2])).metrics[0].value)
"""


@pytest.mark.slow
def test_a_run_killed_with_9_is_resumed_and_gives_what_an_unbroken_one_gives(tiny: Scorer, home: Path) -> None:
    times = 20
    folders = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", RUN, str(tiny.stored.path), str(times), str(Path(__file__).parent)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": folders})
    logs = lambda: list(paths.evaluations_folder().glob("*/*/scored.jsonl"))  # noqa: E731
    assert until(lambda: bool(logs()) and logs()[0].stat().st_size > 2000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(paths.evaluations_folder().glob("*/*/items.parquet"))
    assert logs()[0].stat().st_size > 2000
    resumed = evaluated(tiny, DOCUMENTS * times)
    rows, resumed_tokens = items_of(resumed.run), tiny.n_decoded
    shutil.rmtree(paths.evaluations_folder())
    whole = evaluated(tiny, DOCUMENTS * times)
    assert resumed_tokens < tiny.n_decoded - resumed_tokens
    assert whole == resumed
    assert items_of(whole.run) == rows


@pytest.mark.slow
@pytest.mark.root
def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(
    tiny: Scorer, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluated(tiny, DOCUMENTS * 20)
    rows, tokens = items_of(whole.run), tiny.n_decoded
    monkeypatch.setenv("FILBERT_HOME", str(small_disk))
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.truncate(filler, filler.stat().st_size - 32_000)
    with pytest.raises(DiskFull):
        evaluated(tiny, DOCUMENTS * 20)
    stopped = tiny.n_decoded - tokens
    assert 0 < stopped < tokens, "it was in the middle"
    filler.unlink()
    assert evaluated(tiny, DOCUMENTS * 20) == whole
    assert items_of(whole.run) == rows
    assert tiny.n_decoded - tokens - stopped < tokens, "what was kept is not scored again"


def test_two_runs_of_the_same_do_not_write_into_one_folder(tiny: Scorer) -> None:
    evaluated(tiny)
    with locked(kept_folder().with_suffix(".lock")), pytest.raises(StoreBusy):
        evaluated(tiny)


def test_another_question_is_another_run(tiny: Scorer) -> None:
    changed = [{**DOCUMENTS[0], "question": "Which?"}, *DOCUMENTS[1:]]
    runs = {evaluated(tiny).run, evaluated(tiny, changed).run, evaluated(tiny, DOCUMENTS[:30]).run}
    assert len(runs) == 3


def test_a_document_that_asks_nothing_is_kept_counted_and_wrong(tiny: Scorer) -> None:
    broken = [{"id": "x", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}]
    empty = [{**DOCUMENTS[0], "choices": {"text": [], "label": []}}]
    result = evaluated(tiny, [*DOCUMENTS[:6], *broken, *empty])
    acc = result.metrics[0]
    assert (acc.n, acc.n_invalid) == (6, 2)
    rows = items_of(result.run)
    assert [bool(row["problem"]) for row in rows] == [False] * 6 + [True] * 2
    right = sum(row["chosen"] == row["gold"] for row in rows[:6])
    assert acc.value == right / 8


def test_a_prompt_over_the_context_loses_its_beginning_and_is_counted(tmp_path: Path) -> None:
    long = {**DOCUMENTS[0], "question": "word " * 400 + "which?"}
    with Scorer(in_place(make_tiny.dense(tmp_path / "tiny.gguf")), threads=1, context=256) as scorer:
        result = evaluated(scorer, [long, *DOCUMENTS[1:4]])
        ready = prepared(scorer, items(load("arc_easy"), [long]))
    assert result.n_cut == 1
    assert result.metrics[0].n == 4
    assert [row["cut"] for row in items_of(result.run)] == [True, False, False, False]
    assert all(len(asked.prefix) + len(asked.endings[0]) - 1 == 256 for asked in ready.asked)


def test_an_ending_over_the_context_leaves_its_item_without_numbers(tmp_path: Path) -> None:
    long = {**DOCUMENTS[0], "choices": {"text": ["word " * 400, "b"], "label": ["A", "B"]}}
    with Scorer(in_place(make_tiny.dense(tmp_path / "tiny.gguf")), threads=1, context=256) as scorer:
        result = evaluated(scorer, [long, *DOCUMENTS[1:4]])
    assert (result.metrics[0].n, result.metrics[0].n_invalid) == (3, 1)


def test_nan_is_never_the_best_choice() -> None:
    item = Item(0, (("q", " a"), ("q", " b")), ("a", "b"), 0)
    row = graded(item, [Scored(None, True, 1), Scored(-3.0, False, 1)], False)
    assert (row.chosen, row.chosen_norm, row.is_right("acc")) == (None, None, False)
    assert "NaN" in row.problem


def test_an_ending_is_right_where_each_of_its_tokens_was_the_likeliest(tiny: Scorer, tmp_path: Path) -> None:
    file = tmp_path / "last.yaml"
    file.write_text(
        "task: last\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: x.jsonl\ntest_split: test\n"
        "output_type: loglikelihood\ndoc_to_text: text\ndoc_to_target: end\nmetric_list:\n  - metric: acc\n"
    )
    task = load(file)
    asked = items(task, [{"text": f"the {word}", "end": word} for word in WORDS])
    result = finish(evaluate_job(tiny, task, asked, len(asked), "here", "again"))
    rows = items_of(result.run)
    assert [row["right"] for row in rows] == [row["greedy"][0] for row in rows]
    assert not all(row["right"] for row in rows)
    assert result.metrics[0].value == np.mean([row["right"] for row in rows])


def test_a_task_files_name_never_leads_out_of_the_folder(tiny: Scorer, home: Path) -> None:
    task = replace(load("arc_easy"), name="../../../outside")
    run = finish(evaluate_job(tiny, task, items(task, DOCUMENTS[:2]), 2, "here", "again", "0-shot")).run
    assert run.startswith("outside-")
    (kept,) = results.of(tiny.stored.sha256)
    assert (kept.about, kept.settings, kept.run) == ("../../../outside", "0-shot", run)
    assert [path.name for path in home.parent.iterdir() if "outside" in path.name] == []


def test_a_run_that_is_not_there_is_told_with_those_that_are(tiny: Scorer) -> None:
    run = evaluated(tiny).run
    with pytest.raises(BadInput, match=f"(?s)no finished run x.*{run}"):
        items_of("x")


def test_winogrande_scores_one_ending_behind_each_context(tiny: Scorer) -> None:
    task = load("winogrande")
    document = {
        "sentence": "The cup broke since _ was thin.",
        "option1": "the cup",
        "option2": "the table",
        "answer": "1",
    }
    ready = prepared(tiny, items(task, [document]))
    assert len(ready.asked) == 2
    assert {tuple(asked.endings[0]) for asked in ready.asked} == {tuple(tiny.tokenize([" was thin."])[0])}
    result = finish(evaluate_job(tiny, task, items(task, [document]), 1, "here", "again"))
    assert [metric.name for metric in result.metrics] == ["acc"]
    assert json.loads((kept_folder() / "result.json").read_text())["result"]["run"] == result.run
