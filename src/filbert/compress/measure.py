"""What a compressed file lost: beside its source, on the check texts, every token of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filbert.compress.making import KINDS, Measured, measured_of
from filbert.compress.plan import Plan
from filbert.compress.texts import check_sha256, check_texts
from filbert.core.jobs import Job
from filbert.core.machine import memory
from filbert.engine.fidelity import fidelities_job
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import SCORING
from filbert.engine.model import Model
from filbert.models import fit
from filbert.models.store import in_place

WINDOW, MOST_WINDOWS = 512, 4  # tokens; of each kind of text, so that each counts the same

Measure = Callable[[Path], Job[Measured]]


def can_measure(made: Plan) -> bool:
    """Whether it is a model of text, and there is memory for it and its source together."""
    header = made.source.headers[0]
    needed = fit.estimate(made.source.headers, _window(made), SCORING).total + made.size_bytes
    return header.kind == "language" and needed < memory().available


def measure_job(made: Plan, file: Path, load: LoadOptions) -> Job[Measured]:
    """file: what was written by the plan. Raises BadInput where there is no memory for both, EngineError."""
    with Model(in_place(file), load) as model:  # its worker writes the chats, and gives its memory to the scorer
        texts = {text.name: text for text in check_texts(model)}
    asked = [(texts[name].text, texts[name].special) for name in KINDS[1:]]
    with Model(in_place(file), load) as model, Model(made.source.stored, load) as source:
        found = yield from fidelities_job(model, source, asked, _window(made), MOST_WINDOWS, made.command)
    return measured_of(found, check_sha256())


def _window(made: Plan) -> int:
    return min(WINDOW, made.source.headers[0].context_length or WINDOW)
