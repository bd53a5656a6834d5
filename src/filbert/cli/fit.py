"""`filbert fit`: whether a model fits this machine, and how fast it will be, before anything is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import catalogue_names
from filbert.cli.console import note, patience, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import DownloadFailed, EngineError, EngineMissing, FilbertError, OfflineRefused
from filbert.core.files import size
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.models.forecast import Forecast
    from filbert.models.speed import Calibration, Speed

OTHER = frozenset(LoadOptions.model_fields) - {"context", "kv", "threads", "prompt_cache_mib"}


@with_options(LoadOptions, without=OTHER)
def fit(
    load: LoadOptions,
    settings: Settings,
    name: Annotated[
        str,
        typer.Argument(
            help="A model's name or path; it need not be here. Left out: the setting `model`.",
            autocompletion=catalogue_names,
            show_default=False,
        ),
    ] = "",
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine again first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """Whether a model fits this machine, and how fast it is. Nothing is downloaded but its header."""
    from filbert.core.machine import memory
    from filbert.models.batch import default_batch
    from filbert.models.fit import Demand, prompt_cache_default
    from filbert.models.forecast import forecast
    from filbert.models.remote_header import look

    if calibrate and not name:
        calibration_of(load, settings, again=True)
        return
    name = name or settings.model
    try:
        with patience(f"reading the header of {name}", settings):
            looked = look(name)
    except (DownloadFailed, OfflineRefused) as exc:
        fit_roughly(name, exc, load, calibration_of(load, settings, again=calibrate), as_json=as_json)
        return
    calibration = calibration_of(load, settings, again=calibrate)
    free, cache = memory(), load.prompt_cache_mib
    prompt_cache = prompt_cache_default(free) if cache is None else cache << 20
    demand = Demand(load.kv, load.parallel, load.batch or default_batch(looked.headers, calibration), prompt_cache)
    found = forecast(looked.name, looked.headers, free, calibration, load.context, demand)
    if as_json:
        say(json.dumps({**asdict(found), "total": found.memory.total, "read_bytes": looked.read_bytes}, indent=1))
        return
    for line in readable(found):
        say(line)


def fit_roughly(
    name: str, unread: FilbertError, load: LoadOptions, calibration: Calibration | None, *, as_json: bool
) -> None:
    """What the catalogue's figures tell where the header cannot be read. Raises `unread` where they tell nothing."""
    from filbert.core.machine import memory
    from filbert.models.offers import has_room, known_offer

    offer = known_offer(name, calibration)
    if not offer:
        raise unread
    free, entry = memory(), offer.entry
    fits, tps = has_room(offer, free), offer.tps if "chat" in entry.capabilities else None
    if as_json:
        told = {"name": entry.name, "rough": True, "why": unread.what, "weights": offer.size_bytes}
        say(json.dumps({**told, "available": free.available, "fits": fits, "generation": tps}, indent=1))
        return
    say(f"{entry.name}: about {size(offer.size_bytes)}, from the catalogue's figures; its header was not read.")
    say(f"  {' '.join(filter(None, (unread.what, unread.why)))}")
    left = "with room for its context" if fits else "too little for it and its context"
    say(f"Roughly reckoned, it {'fits' if fits else 'does not fit'}: {size(free.available)} are free, {left}.")
    if load.model_fields_set & {"context", "kv"}:
        say("--context and --kv are not reckoned with: what they take stands in the header.")
    if tps:
        say(f"It will write about {figure(tps)} tokens/s, roughly.")


def calibration_of(load: LoadOptions, settings: Settings, *, again: bool = False) -> Calibration | None:
    """What this machine was measured to do, measured now where it was not; None, and a note why, where it cannot be."""
    from filbert.core.jobs import run
    from filbert.engine.calibration import calibrated, is_busy

    try:
        with progress(settings) as watch:
            found = run("calibrate", {}, calibrated(load, again=again), watch)
    except (EngineMissing, EngineError) as exc:
        note(f"Speed is not known: {exc}", settings)
        return None
    if is_busy(found):
        note(
            "Other programs were busy when this machine was measured: speeds may be too low. "
            "`filbert fit --calibrate` measures again.",
            settings,
        )
    return found


def readable(found: Forecast) -> Iterator[str]:
    yield f"{found.name} ({found.quantisation}), {found.context} tokens of context in a cache of {found.kv}"
    rows = {
        "weights": found.memory.weights,
        "copied weights": found.memory.repacked,
        "key/value cache": found.memory.kv_cache,
        "compute buffers": found.memory.compute,
        "prompt cache": found.memory.prompt_cache,
        "process": found.memory.process,
        "all": found.memory.total,
    }
    for label, size_bytes in rows.items():
        yield f"  {label:<16}{size(size_bytes):>10}"
    yield verdict(found)
    if found.empty and found.full:
        yield speed(found.empty, found.full, found.context)


def verdict(found: Forecast) -> str:
    free, trained = size(found.available), found.trained or found.largest_context
    if not found.largest_context:
        return f"It does not fit: {free} are free, too little even for 512 tokens of context."
    most = (
        f"{found.largest_context} tokens, all it was trained on,"
        if found.largest_context >= trained
        else (f"{found.largest_context} of the {trained} tokens it was trained on")
    )
    if found.fits:
        return f"It fits: {free} are free. Of context {most} would fit."
    return f"It does not fit with {found.context} tokens of context: {free} are free. {most} would fit."


def speed(empty: Speed, full: Speed, context: int) -> str:
    from filbert.models.speed import GIVE_OR_TAKE

    off, binds = f"give or take {100 * GIVE_OR_TAKE:.0f} % on an idle machine", f"bound by {empty.binds}"
    if empty.generation is None or full.generation is None:
        return f"It will read texts at about {figure(empty.prompt)} tokens/s, {off}, {binds}."
    return (
        f"It will write about {figure(empty.generation)} tokens/s ({figure(full.generation)} with {context} tokens "
        f"before) and read prompts at {figure(empty.prompt)}, {off}, {binds}."
    )


def figure(tokens_a_second: float) -> str:
    """Two digits: more are not known."""
    return f"{float(f'{tokens_a_second:.2g}'):g}"
