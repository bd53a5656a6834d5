"""A number and what makes it more than a rumour: its interval, its baseline, and the command that makes it again."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Literal

from filbert.core.files import size

Kind = Literal["task", "perplexity", "pairs", "fidelity", "bench"]
SHORT = 3  # numbers of a result that one line tells
TWO_SIDED_95 = 1.959964  # standard errors


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a number comes from. versions: "filbert 0.1.0, xllamacpp 2026.10.11549"; adapters: the names of the files
    upon the model. model_sha256, machine: "" of a model on another server: nobody here knows either."""

    model: str
    model_sha256: str
    versions: str
    machine: str
    threads: int
    command: str
    adapters: tuple[str, ...] = ()

    @property
    def adapted(self) -> str:
        """ "" or " with tone.gguf"."""
        return f" with {', '.join(self.adapters)}" if self.adapters else ""

    @property
    def source(self) -> str:
        """All but the command."""
        weights = f"sha256 {self.model_sha256[:12]}" if self.model_sha256 else "weights unknown"
        machine = f", {self.machine}, {self.threads} threads" if self.machine else ""
        return f"{self.model} ({weights}){self.adapted}, {self.versions}{machine}"

    def __str__(self) -> str:
        return f"{self.source}\nagain: {self.command}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    value: float
    interval: tuple[float, float]  # 95 %
    against: str  # the baseline, or the text or task it was taken on
    n: int  # items behind the value
    n_invalid: int = 0  # items that gave no number: never scored, always shown
    made_by: Provenance

    @property
    def invalid_note(self) -> str:
        """ "" or ", 3 of 10 items invalid and left out"."""
        return f", {self.n_invalid} of {self.n + self.n_invalid} items invalid and left out" if self.n_invalid else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Measurement):
    """One of several numbers. unit: "share" (of 1), "bytes", or words as they stand behind a number."""

    name: str
    unit: str = ""

    def told(self, value: float) -> str:
        """A value of this kind, as people read it."""
        return f"{self._bare(value)} {self._words}".rstrip()

    @property
    def _words(self) -> str:
        return "%" if self.unit == "share" else "" if self.unit == "bytes" else self.unit

    def _bare(self, value: float) -> str:
        if self.unit == "share":
            return f"{100 * value:.1f}"
        if self.unit == "bytes":
            return size(value)
        return f"{value:.4g}"

    @property
    def interval_told(self) -> str:
        """ "95 %: 1 to 2, ", or "" where it is not known."""
        low, high = self.interval
        known = math.isfinite(low) and math.isfinite(high)
        return f"95 %: {self._bare(low)} to {self._bare(high)}, " if known else ""

    def __str__(self) -> str:
        told = f"{self.name} {self.told(self.value)}"
        return f"{told} ({self.interval_told.rstrip(', ')})" if self.interval_told else told


def named(found: Measurement, name: str, unit: str = "") -> Named:
    return Named(**{each.name: getattr(found, each.name) for each in fields(Measurement)}, name=name, unit=unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Numbers that were measured together, the foremost first. about: the task, or the file of a text; settings: what
    else they depend on: "window 512". run: what it is kept as, so that the same, measured again, takes its place; time:
    in ISO 8601."""

    kind: Kind
    about: str
    settings: str
    run: str
    time: str
    measurements: tuple[Named, ...]

    @property
    def title(self) -> str:
        words = {"task": "", "perplexity": "perplexity, ", "pairs": "answers, ", "fidelity": "fidelity, ", "bench": ""}
        adapted = self.measurements[0].made_by.adapted
        return f"{words[self.kind]}{self.about}" + (f", {self.settings}" if self.settings else "") + adapted

    def invalid_note(self, found: Named) -> str:
        """As of the measurement; what gives no number on a task counts as wrong."""
        note = found.invalid_note
        return note.replace("invalid and left out", "without a number, wrong") if self.kind == "task" else note

    def __str__(self) -> str:
        first = self.measurements[0]
        told = "; ".join(map(str, self.measurements[:SHORT]))
        return (
            f"{self.title}: {told}; against {first.against}, n {first.n}{self.invalid_note(first)}, {self.time[:10]}; "
            f"again: {first.made_by.command}"
        )


def now() -> str:
    """As the time of a result."""
    return datetime.now(UTC).isoformat(timespec="seconds")
