"""`filbert rerank`: documents by closeness to a query."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.console import patience, piped_lines, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, NO_TEXT, loaded
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions


@with_options(LoadOptions, without=NO_TEXT)
def rerank(
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    load: LoadOptions,
    settings: Settings,
    documents: Annotated[
        list[str] | None, typer.Argument(help="Texts; left out, one a line of standard input.")
    ] = None,
    model: MODEL = "",
) -> None:
    """Order documents by closeness to a query. The closest first: score, tab, document. Needs a reranker."""
    wanted = documents or piped_lines(settings)
    if not wanted:
        raise BadInput("There is nothing to rank.", do="Name documents, or pipe them in, one a line.")
    with loaded(model, load, settings, kind="reranker") as engine:
        with patience(f"reading {len(wanted)} documents", settings):
            order = engine.rerank(query, wanted)
        for ranked in order:
            say(f"{ranked.score:.4f}\t{wanted[ranked.index]}")
