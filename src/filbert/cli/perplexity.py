"""`filbert perplexity`: how well a model predicts a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.console import say
from filbert.cli.loading import MODEL, opened
from filbert.cli.options import with_options
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.options import LoadOptions


@with_options(LoadOptions)
def perplexity(
    load: LoadOptions,
    settings: Settings,
    text: Annotated[Path, typer.Option("--text", help="A UTF-8 text file.")],
    model: MODEL = "",
    window: Annotated[
        int, typer.Option("--window", min=16, help="Tokens a window; the second half of each is scored.")
    ] = 512,
) -> None:
    """Perplexity by llama.cpp's convention; lower is better."""
    try:
        words = text.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{text} cannot be read as UTF-8 text.", why=f"{exc}.", do="Name a text file.") from exc
    with opened(model, load, settings) as engine:
        say(str(engine.perplexity(words, window)))
