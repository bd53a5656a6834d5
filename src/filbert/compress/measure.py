"""What a compressed file lost: beside its source, on the check texts, every token of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from filbert.compress.making import KINDS, Measured, measured_of
from filbert.compress.plan import Plan, Source
from filbert.compress.prepare import folder_of
from filbert.compress.texts import check_sha256, check_texts
from filbert.core.errors import EngineError
from filbert.core.files import make_folder, sha256_of, write_whole
from filbert.core.jobs import Job, Progress
from filbert.core.machine import memory
from filbert.engine import capi_layout
from filbert.engine.fidelity import Fidelity, fidelities_job
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import SCORING
from filbert.engine.model import Model
from filbert.models import fit
from filbert.models.store import in_place

WINDOW, MOST_WINDOWS = 512, 4  # tokens; of each kind of text, so that each counts the same

Measure = Callable[[Path], Job[Measured]]


def can_measure(source: Source, size_bytes: int) -> bool:
    """Whether it is a model of text, and there is memory for it and a file of so many bytes together."""
    header = source.headers[0]
    alone = fit.estimate(source.headers, _window(source), SCORING)
    needed = alone.total + alone.own + size_bytes
    return header.kind == "language" and needed < memory().available


def measure_job(made: Plan, file: Path, load: LoadOptions) -> Job[Measured]:
    """file: what was written by the plan; the same bytes are not measured twice. Raises BadInput where there is no
    memory for both, EngineError."""
    yield Progress("reading the file")
    asked = [sha256_of(file), check_sha256(), _window(made.source), MOST_WINDOWS, capi_layout.VERSION]
    name = f"measured-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}.json"
    kept = folder_of(made.source.original) / name
    if kept.exists():
        return TypeAdapter(Measured).validate_python(json.loads(kept.read_text("utf-8")))
    found = measured_of((yield from _fidelities(made, file, load)), check_sha256())
    make_folder(kept.parent)
    with write_whole(kept) as written:
        written.write(json.dumps(asdict(found)).encode())
    return found


def _fidelities(made: Plan, file: Path, load: LoadOptions) -> Job[list[Fidelity]]:
    """Of all check texts together, and of each."""
    with Model(in_place(file), load) as model:  # its worker writes the chats, and gives its memory to the scorer
        texts = {text.name: text for text in check_texts(model)}
    asked = [(texts[name].text, texts[name].special) for name in KINDS[1:]]
    with Model(in_place(file), load) as model, Model(made.source.original, load) as source:
        found = yield from fidelities_job(model, source, asked, _window(made.source), MOST_WINDOWS, made.command)
    if invalid := found[0].n_invalid:
        raise EngineError(f"The compressed model gives no numbers of {invalid} tokens.", do="Choose other types.")
    return found


def _window(source: Source) -> int:
    return min(WINDOW, source.headers[0].context_length or WINDOW)
