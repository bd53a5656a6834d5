"""What a model's speed comes to: a row a test, by the names of `llama-bench` where it has one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from filbert.core.files import size
from filbert.engine.calibration import BUSY_SHARE
from filbert.models.fit import Fit
from filbert.models.results import run_name
from filbert.report.measurement import Measurement, Provenance, Result, named, now
from filbert.report.statistics import mean_interval

Kind = Literal["pp", "tg"]
HEAD = ("model", "size", "params", "threads", "beside", "test", "tokens/s", "first token, s")


@dataclass(frozen=True, slots=True)
class SpeedTest:
    """pp reads so many tokens, tg writes them; depth: tokens before them, which are not counted."""

    kind: Kind
    tokens: int
    depth: int = 0

    def __str__(self) -> str:
        return f"{self.kind}{self.tokens}" + (f" @ d{self.depth}" if self.depth else "")

    @property
    def needs(self) -> int:
        """Tokens of context: something is read before the first is written, and the last one written is not read."""
        return (self.depth if self.kind == "pp" else max(1, self.depth)) + self.tokens + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Measurement):
    """value: the mean of the samples; spread: their standard deviation, NaN of one."""

    samples: Sequence[float]

    @classmethod
    def of(cls, samples: Sequence[float], against: str, made_by: Provenance) -> Self:
        return cls(
            value=statistics.fmean(samples),
            interval=mean_interval(samples),
            against=against,
            n=len(samples),
            made_by=made_by,
            samples=tuple(samples),
        )

    @property
    def spread(self) -> float:
        return statistics.stdev(self.samples) if self.n > 1 else math.nan

    def told(self, form: str = ".2f") -> str:
        return f"{self.value:{form}}" + (f" ± {self.spread:{form}}" if self.n > 1 else "")

    def to_json(self) -> dict[str, Any]:
        """Of one sample, no interval and no spread."""
        interval, spread = (self.interval, self.spread) if self.n > 1 else (None, None)
        return {"value": self.value, "interval": interval, "stddev": spread, "samples": self.samples}


@dataclass(frozen=True, slots=True)
class Row:
    """busy: processes that kept cores busy meanwhile; speed: tokens a second; seconds: what its samples took;
    first_token_s: from the question to the first token, of tests that read."""

    test: SpeedTest
    busy: int
    speed: Sampled
    seconds: Sequence[float]
    first_token_s: Sampled | None

    def __str__(self) -> str:
        return f"{self.test} beside {self.busy} busy" if self.busy else str(self.test)

    def to_json(self) -> dict[str, Any]:
        ns = [round(each * 1e9) for each in self.seconds]
        reads = self.test.kind == "pp"
        return {
            "n_prompt": self.test.tokens if reads else 0,
            "n_gen": 0 if reads else self.test.tokens,
            "n_depth": self.test.depth,
            "n_busy": self.busy,
            "avg_ns": round(statistics.fmean(ns)),
            "stddev_ns": round(statistics.stdev(ns)) if len(ns) > 1 else 0,
            "avg_ts": self.speed.value,
            "stddev_ts": self.speed.spread if self.speed.n > 1 else 0.0,
            "interval_ts": self.speed.to_json()["interval"],
            "samples_ns": ns,
            "samples_ts": self.speed.samples,
            "first_token_s": self.first_token_s.to_json() if self.first_token_s else None,
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """Bytes and tokens. settings: how else it was loaded, in flags; planned: the memory that the worker was reckoned to
    take; memory: what it took; busy_cores: how many cores other programs used before the start."""

    size_bytes: int
    parameters: int
    context: int
    settings: str
    planned: Fit
    memory: Sampled
    busy_cores: float
    rows: Sequence[Row]
    made_by: Provenance

    def cells(self) -> Iterator[list[str]]:
        """As HEAD has them."""
        for row in self.rows:
            yield [
                self.made_by.model,
                size(self.size_bytes),
                f"{self.parameters / 1e6:.2f} M",
                str(self.made_by.threads),
                f"{row.busy} busy" if row.busy else "–",
                str(row.test),
                row.speed.told(),
                row.first_token_s.told(".3f") if row.first_token_s else "–",
            ]

    def notes(self, cores: int) -> Iterator[str]:
        """cores: of this machine."""
        plan = self.planned
        yield (
            f"memory of {self.made_by.model} with {self.context} tokens of context: {size(self.memory.value)}; planned "
            f"{size(plan.total)} (weights {size(plan.weights + plan.repacked)}, context {size(plan.kv_cache)}, "
            f"computing {size(plan.compute)}, the process {size(plan.process)})"
        )
        if self.busy_cores > BUSY_SHARE * cores:
            yield (
                f"Other programs kept {self.busy_cores:.1f} of {cores} cores busy before the start: without them the "
                "figures are higher."
            )

    def to_result(self) -> Result:
        asked = [(str(row), self.context, self.made_by.threads, self.made_by.machine) for row in self.rows]
        waits = [(row.first_token_s, f"first token of {row}") for row in self.rows if row.first_token_s]
        return Result(
            kind="bench",
            about="speed",
            settings=", ".join(
                filter(None, (f"{self.made_by.threads} threads, context {self.context}", self.settings))
            ),
            run=run_name("bench", asked, self.settings, self.made_by.adapters),
            time=now(),
            measurements=(
                *(named(row.speed, str(row), "tokens/s") for row in self.rows),
                *(named(wait, name, "s") for wait, name in waits),
                named(self.memory, "memory", "bytes"),
            ),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """An object a test, as `llama-bench -o json` writes them."""
        made_by = asdict(self.made_by)
        about = {
            "model": made_by.pop("model"),
            "model_sha256": made_by.pop("model_sha256"),
            "model_size": self.size_bytes,
            "model_n_params": self.parameters,
            "cpu_info": made_by.pop("machine"),
            "n_threads": made_by.pop("threads"),
            "n_ctx": self.context,
            "memory_bytes": self.memory.to_json(),
            "planned_bytes": asdict(self.planned),
            "busy_cores": self.busy_cores,
            **made_by,
        }
        return [about | row.to_json() for row in self.rows]
