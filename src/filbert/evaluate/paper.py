"""The paper's table and the project's later page, as published, with a model of ours among them.

GPT4All: An Ecosystem of Open Source Compressed Language Models (2023), Table 1. What harness, prompts and metric made
these figures was not told. Ours stand beside them as acc for BoolQ and WinoGrande, acc_norm for the other five.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filbert.evaluate.result import TaskResult
from filbert.evaluate.task import PAPER
from filbert.report.measurement import Provenance
from filbert.report.page import Bar, Cell, Chart, Notes, Page, Section, Table

FIGURES = Path(__file__).with_name("paper.csv")
BY_ACC = ("boolq", "winogrande")
HEAD = ("model", "BoolQ", "PIQA", "HellaSwag", "WinoGrande", "ARC-e", "ARC-c", "OBQA", "average", "from")
NOTE = (
    "Measured: acc for BoolQ and WinoGrande, acc_norm for the other five, ± one standard error, in %. Quoted: the "
    "paper's Table 1 and the project's later page, whose prompts and metric are not stated."
)


@dataclass(frozen=True, slots=True)
class Row:
    """accuracies, errors: of each of the paper's tasks, in %; None where it was not measured, or no error was told."""

    model: str
    accuracies: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    origin: str  # "paper", "later page", "measured"

    @property
    def average(self) -> float | None:
        known = [value for value in self.accuracies if value is not None]
        return sum(known) / len(PAPER) if len(known) == len(PAPER) else None

    def cells(self) -> list[str]:
        """As HEAD names them."""
        each = [_cell(value, error) for value, error in zip(self.accuracies, self.errors, strict=True)]
        return [self.model, *each, _cell(self.average, None), self.origin]


def quoted() -> list[Row]:
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                line["model"],
                tuple(float(line[task]) for task in PAPER),
                (None,) * len(PAPER),
                "paper" if line["in_paper"] == "True" else "later page",
            )
            for line in csv.DictReader(file)
        ]


def measured(model: str, results: Mapping[str, TaskResult]) -> Row:
    """results: by the name of the task; others than the paper's are left out."""
    found = [results[task].metric(metric_of(task)) if task in results else None for task in PAPER]
    return Row(
        model,
        tuple(100 * metric.value if metric else None for metric in found),
        tuple(
            None if metric is None or math.isnan(metric.standard_error) else 100 * metric.standard_error
            for metric in found
        ),
        "measured",
    )


def metric_of(task: str) -> str:
    return "acc" if task in BY_ACC else "acc_norm"


def among(rows: Sequence[Row]) -> list[Row]:
    """Those measured among those quoted, the best average first; without one they come last."""
    return sorted([*quoted(), *rows], key=lambda row: -1.0 if row.average is None else row.average, reverse=True)


def table(rows: Sequence[Row]) -> Table:
    told = [[*row.cells()[:-1], "measured" if row.origin == "measured" else f"quoted: {row.origin}"] for row in rows]
    marked = [at for at, row in enumerate(rows) if row.origin == "measured"]
    return Table(HEAD, [[Cell(cell) for cell in row] for row in told], marked)


def page(rows: Sequence[Row], made_by: Sequence[Provenance]) -> Page:
    """The table and a chart a column. made_by: of the rows that were measured."""
    charts = [_chart(rows, at, column) for at, column in enumerate(HEAD[1:-1])]
    again = Notes([(each.source, each.command) for each in made_by])
    sections = [Section("Accuracy", [table(rows), *charts]), Section("How it is made again", [again])]
    return Page("Beside the paper", NOTE, sections)


def _chart(rows: Sequence[Row], at: int, title: str) -> Chart:
    bars = []
    for row in rows:
        value, error = [*row.accuracies, row.average][at], [*row.errors, None][at] or 0.0
        if value is not None:
            places = [(value + side * error) / 100 for side in (0, -1, 1)]
            bars.append(Bar(row.model, _cell(value, None), *places, marked=row.origin == "measured"))
    return Chart(title, "100 %", bars)


def _cell(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" + (f" ±{error:.1f}" if error is not None else "")
