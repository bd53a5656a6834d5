"""`filbert doctor`: what this machine has, and what would help."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.config import wrong_settings
from filbert.cli.console import say
from filbert.cli.flags_from_options import with_options
from filbert.core.files import size
from filbert.core.settings import Settings, forgiving

if TYPE_CHECKING:
    from filbert.face.checkup import Checkup

WIDTH = 100
WELL_KNOWN = ("llama", "qwen3", "qwen3moe", "gemma3", "phi3", "granite", "bert")


@with_options(read=forgiving)
def doctor(settings: Settings, as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False) -> None:
    """What this machine has, what is installed, and what would help."""
    from filbert.face.checkup import checkup

    found = checkup()
    help_wanted = [*found.advice, *wrong_settings()]
    if as_json:
        say(json.dumps({**asdict(found), "advice": help_wanted}, indent=1))
        return
    for label, value in _facts(found):
        say(textwrap.fill(f"{label:<14}{value}", WIDTH, subsequent_indent=" " * 14, break_on_hyphens=False))
    say()
    for sentence in help_wanted or ["All is well."]:
        say(textwrap.fill(sentence, WIDTH, initial_indent="- ", subsequent_indent="  "))


def _facts(found: Checkup) -> Iterator[tuple[str, str]]:
    machine, engine, store = found.machine, found.engine, found.store
    avx2 = {True: ", AVX2", False: ", no AVX2", None: ""}[machine.avx2]
    yield "filbert", f"{found.filbert} on Python {machine.python}, {machine.system}"
    yield "processor", f"{machine.processor}{avx2}; {machine.cores} cores usable, {machine.busy_cores} busy now"
    yield "speed", f"measured {machine.measured}" if machine.measured else "not measured: `filbert fit NAME` does that"
    yield "memory", f"{size(machine.memory_available)} free of {size(machine.memory)}"
    yield "disk", f"{size(machine.disk_free)} free at {store.folder}"
    yield "engine", f"xllamacpp {engine.build or 'is missing'}, {'cannot be used' if engine.problem else 'works'}"
    yield "OpenMP", ", ".join(engine.openmp) or "not known"
    yield "models", f"{store.models} ({size(store.size_bytes)}), {len(store.damaged)} damaged"
    yield "adapters", ", ".join(store.adapters) or "none in the store"
    yield "settings", store.settings_file + ("" if store.has_settings_file else " (not there: defaults count)")
    some = ", ".join(name for name in WELL_KNOWN if name in engine.architectures)
    yield "architectures", f"{len(engine.architectures)}, among them {some} (all: `--json`)"
