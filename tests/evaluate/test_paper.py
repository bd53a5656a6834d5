"""The paper's table with a model of ours among it, and results in lm-eval's shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from filbert.evaluate import paper
from filbert.evaluate.harness_json import harness_json
from filbert.evaluate.result import Metric, TaskResult
from filbert.evaluate.task import PAPER
from filbert.report.measurement import Provenance
from filbert.report.page import Chart, Table, html

MADE_BY = Provenance("m", "0" * 64, "filbert 0", "cpu", 2, "filbert evaluate m")


def result(task: str, acc: float, acc_norm: float) -> TaskResult:
    metrics = [
        Metric(
            name=name,
            value=value,
            interval=(0, 1),
            against=task,
            n=9,
            n_invalid=1,
            standard_error=0.01,
            made_by=MADE_BY,
        )
        for name, value in (("acc", acc), ("acc_norm", acc_norm))
    ]
    return TaskResult(task, "1.0", f"{task}-0", tuple(metrics), 0)


def test_the_quoted_rows_are_those_published() -> None:
    rows = paper.quoted()
    assert (len(rows), sum(row.origin == "paper" for row in rows)) == (35, 15)
    averages = {row.model: row.average for row in rows}
    assert averages["GPT4All 13B snoozy"] == pytest.approx(65.3, abs=0.06)
    assert averages["text-davinci-003"] == pytest.approx(75.7, abs=0.06)


def test_the_page_about_the_paper_quotes_rows_as_they_were_published() -> None:
    page = (Path(__file__).parents[2] / "docs/paper.md").read_text("utf-8")
    quoted = {row.model: row.cells() for row in paper.quoted()}
    told = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.endswith(("| paper |", "| later page |"))
    ]
    assert len(told) == 6
    assert told == [quoted[cells[0]] for cells in told]


def test_ours_takes_acc_for_boolq_and_winogrande_and_acc_norm_elsewhere() -> None:
    row = paper.measured("m", {task: result(task, 0.7, 0.6) for task in PAPER})
    by_task = dict(zip(PAPER, row.accuracies, strict=True))
    assert by_task == pytest.approx({task: 70 if task in ("boolq", "winogrande") else 60 for task in PAPER})
    assert row.average == pytest.approx((2 * 70 + 5 * 60) / 7)
    placed = paper.among([row])
    assert [one.average for one in placed] == sorted((one.average or 0 for one in placed), reverse=True)
    assert row.cells()[1] == "70.0 ±1.0"


def test_a_task_that_was_not_measured_leaves_no_average_and_comes_last() -> None:
    row = paper.measured("m", {"boolq": result("boolq", 0.7, 0.6)})
    assert row.average is None
    assert paper.among([row])[-1] == row
    assert row.cells()[2] == "-"


def test_its_page_has_a_bar_a_number_marks_ours_and_says_how_it_is_made_again() -> None:
    row = paper.measured("ours", {"boolq": result("boolq", 0.7, 0.6), "piqa": result("piqa", 0.7, 0.6)})
    page = paper.page(paper.among([row]), [MADE_BY])
    table, *charts = page.sections[0].blocks
    assert isinstance(table, Table)
    assert [table.rows[at][0].text for at in table.marked] == ["ours"]
    assert {row[-1].text for row in table.rows} == {"measured", "quoted: paper", "quoted: later page"}
    bars = {chart.title: {bar.label: bar for bar in chart.bars} for chart in charts if isinstance(chart, Chart)}
    assert list(bars) == list(paper.HEAD[1:-1])
    ours = bars["BoolQ"]["ours"]
    assert (ours.told, ours.value, ours.low, ours.high) == ("70.0", *map(pytest.approx, (0.70, 0.69, 0.71)))
    assert [bar.label for bar in bars["BoolQ"].values() if bar.marked] == ["ours"]
    assert len(bars["BoolQ"]) == 36 and "ours" not in bars["OBQA"] and "ours" not in bars["average"]
    told = html(page)
    assert told.count('class="interval"') == 2, "nobody told an interval of what is quoted"
    assert "<code>filbert evaluate m</code>" in told and "m (sha256 000000000000), filbert 0" in told


def test_results_are_written_as_lm_eval_does() -> None:
    told = harness_json({"m": [result("piqa", 0.7, 0.6)]})
    assert told["results"]["piqa"]["acc,none"] == 0.7
    assert told["results"]["piqa"]["acc_norm_stderr,none"] == 0.01
    assert told["n-samples"] == {"piqa": {"effective": 10}}
    assert set(harness_json({"m": [result("piqa", 0.7, 0.6)], "n": [result("piqa", 0.5, 0.6)]})) == {"m", "n"}
