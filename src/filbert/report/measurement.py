"""A number and what makes it more than a rumour: its interval, its baseline, and the command that makes it again."""

from __future__ import annotations

from dataclasses import dataclass

TWO_SIDED_95 = 1.959964  # standard errors


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a number comes from. versions: "filbert 0.1.0, xllamacpp 2026.10.11549"."""

    model: str
    model_sha256: str
    versions: str
    machine: str
    threads: int
    command: str

    def __str__(self) -> str:
        return (
            f"{self.model} (sha256 {self.model_sha256[:12]}), {self.versions}, {self.machine}, {self.threads} threads\n"
            f"again: {self.command}"
        )


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
