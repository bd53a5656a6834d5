"""What is known of one model, or of several side by side: what their files say, and every result kept of them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filbert.core.files import size
from filbert.evaluate import paper
from filbert.evaluate.task import PAPER
from filbert.models import results, store
from filbert.models.gguf import check_split
from filbert.models.store import StoredModel
from filbert.report.measurement import Kind, Named, Result
from filbert.report.page import Bar, Cell, Chart, Commands, Notes, Page, Section, Table, Words
from filbert.report.table import shortened
from filbert.version import __version__

LONGEST_FACT = 80  # characters
SECTIONS: Mapping[Kind, tuple[str, str]] = {
    "task": ("Tasks", "Questions with answers to choose from: the share that was answered rightly. Higher is better."),
    "perplexity": ("Perplexity of texts", "Among how many equally likely tokens it was undecided. Lower is better."),
    "pairs": ("Perplexity of answers", "As above, of answers after their prompts. Lower is better."),
    "fidelity": ("What compression cost", "How far its predictions are from the full model's. 0 is no loss."),
    "bench": ("Speed and memory", "On the machine that the notes name, and on no other."),
}
ASKING: Mapping[Kind, tuple[str, ...]] = {
    "task": ("evaluate", "MODEL", "--tasks", "paper", "--limit", "200"),
    "perplexity": ("perplexity", "MODEL", "--text", "FILE.txt"),
    "pairs": ("perplexity", "MODEL", "--pairs", "FILE.jsonl"),
    "fidelity": ("fidelity", "MODEL", "--base", "BASE", "--text", "FILE.txt"),
    "bench": ("bench", "MODEL"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model of the report. called: by which the commands find it; facts: by their labels, None where the
    file does not say; sizes in bytes."""

    name: str
    called: str
    facts: Mapping[str, str | int | None]
    measured: Sequence[Result]

    @classmethod
    def of(cls, stored: StoredModel) -> Self:
        """Reads the whole file where nobody knows its hash yet. Raises BadModelFile."""
        told = store.describe(stored, check_split(stored.parts))
        is_elsewhere = Path(stored.source).is_absolute()  # a report may be handed on, and says no folder of a person
        facts = {
            "size": told["bytes"],
            "parameters": told["parameters"],
            "quantisation": told["quantisation"],
            "architecture": told["architecture"],
            "context": told["context"],
            "licence": told["licence"] or None,
            "source": Path(stored.source).name if is_elsewhere else stored.source,
            "revision": stored.revision or None,
            "pulled": stored.pulled[:10] or None,
            "sha256": told["sha256"],
        }
        return cls(_short(stored.name), stored.name, facts, results.of(stored.sha256))

    @property
    def to_measure(self) -> list[str]:
        """The commands that measure what was not."""
        missing = [words for kind, words in ASKING.items() if all(each.kind != kind for each in self.measured)]
        return [
            shlex.join(["filbert", *(self.called if word == "MODEL" else word for word in words)]) for words in missing
        ]


def _short(name: str) -> str:
    """Of a file that was named by its path, the file's."""
    return Path(name).name if Path(name).is_absolute() else name


def to_json(subjects: Sequence[Subject]) -> Mapping[str, Any]:
    """What the page tells, as numbers."""
    return {
        "made_by": f"filbert {__version__}",
        "models": [
            {
                "name": subject.name,
                "facts": subject.facts,
                "measured": [results.to_json(result) for result in subject.measured],
                "to_measure": subject.to_measure,
            }
            for subject in subjects
        ],
        "beside_the_paper": [
            {"model": row.model, "origin": row.origin, "average": row.average, **_by_task(row)}
            for row in _beside_the_paper(subjects)
        ],
    }


def page(subjects: Sequence[Subject]) -> Page:
    notes = _Notes()
    sections = [Section("What it is" if len(subjects) == 1 else "What they are", [_facts(subjects)])]
    for kind, (title, words) in SECTIONS.items():
        rows = _rows(subjects, kind)
        if rows:
            charts = [chart for row in rows if (chart := _chart(subjects, row))]
            sections.append(Section(title, [Words(words), _table(subjects, rows, notes), *charts]))
        if kind == "task" and (beside := _beside_the_paper(subjects)):
            sections.append(Section("Beside the paper", [Words(paper.NOTE), paper.table(beside)]))
    if notes.each:
        lead = Words("In brackets: where the number would lie in 95 of 100 measurements with other items of the kind.")
        sections.append(Section("How each number is made again", [lead, Notes(notes.each)]))
    if commands := [command for subject in subjects for command in subject.to_measure]:
        sections.append(Section("Not measured yet", [Words("These commands do:"), Commands(commands)]))
    told = "What its file says" if len(subjects) == 1 else "What their files say"
    names = [subject.name for subject in subjects]
    title = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return Page(title, f"{told}, and what was measured. Made by filbert {__version__}.", sections)


def _facts(subjects: Sequence[Subject]) -> Table:
    labels = [label for label in subjects[0].facts if any(subject.facts[label] is not None for subject in subjects)]
    rows = [[Cell(label), *(Cell(_fact(label, subject.facts[label])) for subject in subjects)] for label in labels]
    return Table(["", *(subject.name for subject in subjects)], rows)


def _fact(label: str, value: str | int | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return size(value) if label == "size" else f"{value:,}"
    return shortened(value.strip().partition("\n")[0], LONGEST_FACT)


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing that was measured, of each model. found: None where it was not."""

    what: str
    of: str
    found: Sequence[tuple[Result, Named] | None]


def _rows(subjects: Sequence[Subject], kind: Kind) -> list[_Row]:
    """Only what was asked alike stands in one row."""
    keys: dict[tuple[str, ...], None] = {}
    each = [dict(_measured(subject, kind)) for subject in subjects]
    for found in each:
        keys |= dict.fromkeys(found)
    return [_Row(key[0], key[1], [found.get(key) for found in each]) for key in keys]


def _measured(subject: Subject, kind: Kind) -> Iterator[tuple[tuple[str, ...], tuple[Result, Named]]]:
    for result in subject.measured:
        if result.kind == kind:
            for number in result.measurements:
                what, of = number.name, [result.about, result.settings]
                if kind == "task":
                    what, of = f"{result.about}, {what}", [result.settings]
                key = (what, ", ".join(filter(None, of)) + number.made_by.adapted, number.against)
                yield key, (result, number)


class _Notes:
    """Each command once, however many numbers it made."""

    def __init__(self) -> None:
        self.each: list[tuple[str, str]] = []

    def number_of(self, result: Result, found: Named) -> int:
        by = found.made_by
        words = (
            f"{_short(by.model)} (sha256 {by.model_sha256[:12]}){by.adapted} on {found.against}; n {found.n}"
            f"{result.invalid_note(found)}; {result.time[:10]}, {by.versions}, {by.machine}, {by.threads} threads"
        )
        if (words, by.command) not in self.each:
            self.each.append((words, by.command))
        return self.each.index((words, by.command)) + 1


def _table(subjects: Sequence[Subject], rows: Sequence[_Row], notes: _Notes) -> Table:
    def cell(found: tuple[Result, Named] | None) -> Cell:
        if found is None:
            return Cell("–")
        result, number = found
        return Cell(number.told(number.value), f"{number.interval_told}n {number.n}", notes.number_of(result, number))

    return Table(
        ["", *(subject.name for subject in subjects)],
        [[Cell(row.what, row.of), *map(cell, row.found)] for row in rows],
    )


def _chart(subjects: Sequence[Subject], row: _Row) -> Chart | None:
    found = [(s.name, each[1]) for s, each in zip(subjects, row.found, strict=True) if each is not None]
    ends = [end for _, number in found for end in (number.value, *number.interval)]
    if not all(map(math.isfinite, ends)) or max(ends) <= 0:
        return None
    most = 1.0 if found[0][1].unit == "share" else max(ends)
    return Chart(
        f"{row.what}, {row.of}" if row.of else row.what,
        "100 %" if found[0][1].unit == "share" else found[0][1].told(most),
        [
            Bar(name, number.told(number.value), *(end / most for end in (number.value, *number.interval)))
            for name, number in found
        ],
    )


def _beside_the_paper(subjects: Sequence[Subject]) -> list[paper.Row]:
    """None where none of its tasks was measured."""
    is_measured = any(each.kind == "task" and each.about in PAPER for s in subjects for each in s.measured)
    return paper.among([_measured_row(subject) for subject in subjects]) if is_measured else []


def _measured_row(subject: Subject) -> paper.Row:
    """In %, of each task of the paper that measurement which has the most items."""
    best: list[Named | None] = []
    for task in PAPER:
        of_task = [
            number
            for result in subject.measured
            if (result.kind, result.about) == ("task", task)
            for number in result.measurements
            if number.name == paper.metric_of(task)
        ]
        best.append(max(of_task, key=lambda number: number.n, default=None))
    return paper.Row(
        subject.name,
        tuple(100 * number.value if number else None for number in best),
        tuple(_standard_error(number) if number else None for number in best),
        "measured",
    )


def _standard_error(found: Named) -> float | None:
    """In %, of a share of items, those without numbers among them."""
    n = found.n + found.n_invalid
    return 100 * math.sqrt(found.value * (1 - found.value) / (n - 1)) if n > 1 else None


def _by_task(row: paper.Row) -> Mapping[str, float | None]:
    return dict(zip(PAPER, row.accuracies, strict=True))
