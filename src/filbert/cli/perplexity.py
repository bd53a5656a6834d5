"""`filbert perplexity`: how well a model predicts a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.console import progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, NO_WORKER, opened
from filbert.core.files import read_text_file
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions


@with_options(LoadOptions, without=NO_WORKER)
def perplexity(
    load: LoadOptions,
    settings: Settings,
    text: Annotated[Path, typer.Option("--text", help="A UTF-8 text file.")],
    model: MODEL = "",
    window: Annotated[
        int, typer.Option("--window", min=16, help="Tokens a window; the second half of each is scored.")
    ] = 512,
) -> None:
    """How well a model predicts a text. Perplexity by llama.cpp's convention: lower is better."""
    words = read_text_file(text, str(text))
    with opened(model, load, settings) as engine, progress(settings) as watch:
        from filbert.core.jobs import run
        from filbert.engine.score_and_perplexity import perplexity_job

        about = {"model": engine.name, "text": str(text), "window": window}
        found = run("perplexity", about, perplexity_job(engine.scorer, words, window, str(text)), watch)
    say(str(found))
