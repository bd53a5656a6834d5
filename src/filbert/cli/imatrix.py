"""`filbert imatrix`: which columns of a model's matrices are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.compressing_flags import FORCE, FULL_MODEL, file_of, need_free, read_calibration
from filbert.cli.console import progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import consent, present
from filbert.cli.measuring_flags import WINDOW, WINDOW_TOKENS
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions


@with_options(LoadOptions, without=frozenset(LoadOptions.model_fields) - {"threads", "openmp", "stall_s"})
def imatrix(
    load: LoadOptions,
    settings: Settings,
    model: FULL_MODEL,
    text: Annotated[
        list[Path] | None, typer.Option("--text", help="A UTF-8 text file; may be repeated.", show_default=False)
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option("--pairs", help="JSON lines of prompt and response, read as chats.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file; left out: MODEL.imatrix.gguf here.", show_default=False),
    ] = None,
    window: WINDOW = WINDOW_TOKENS,
    force: FORCE = False,
) -> None:
    """Make an importance matrix of a text, for `compress`.

    It tells how much each column of a matrix is used, so that rounding errs where it matters least. Where no text is
    named, it reads one that comes with Filbert: chats, code, prose and many languages. The file is llama.cpp's.
    """
    from filbert.compress.imatrix import imatrix_job, quantisables
    from filbert.core.jobs import run
    from filbert.engine.load_plan import LoadPlan

    calibration = read_calibration(text or [], pairs or [])  # before anything is downloaded
    stored = present(model, settings, load.threads, consent(settings))
    target = out or file_of(stored.name, ".imatrix.gguf")
    need_free(target, force=force, sources=stored.parts)
    texts = calibration.of(stored, load)
    plan = LoadPlan(stored, load)
    with progress(settings) as watch:
        about = {"model": stored.name, "texts": [each.name for each in texts], "out": str(target)}
        made = run("imatrix", about, imatrix_job(plan, texts, window, target), watch)
    say(f"{target}: {made.n_windows} windows of {window} tokens, {len(made.names)} tensors")
    for gap in made.gaps(quantisables(plan.headers)):
        say(gap)
