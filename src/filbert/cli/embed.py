"""`filbert embed`: texts to vectors."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from filbert.cli.console import patience, piped_lines, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, NO_TEXT, loaded
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions


@with_options(LoadOptions, without=NO_TEXT)
def embed(
    load: LoadOptions,
    settings: Settings,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; left out, one a line of standard input.")] = None,
    model: MODEL = "",
) -> None:
    """Turn texts into vectors: one JSON array a line, in order."""
    wanted = texts or piped_lines(settings)
    if not wanted:
        raise BadInput("There is nothing to embed.", do='Try `filbert embed "a sentence"`.')
    with loaded(model, load, settings, kind="embedding") as engine:
        with patience(f"embedding {len(wanted)} texts", settings):
            vectors = engine.embed(wanted).vectors
        for vector in vectors:
            say(json.dumps(vector))
