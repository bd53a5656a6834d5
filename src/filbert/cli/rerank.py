"""`filbert rerank`: documents by closeness to a query."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.console import piped_text, say
from filbert.cli.loading import MODEL, loaded
from filbert.cli.options import with_options
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.options import LoadOptions


@with_options(LoadOptions)
def rerank(
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    load: LoadOptions,
    settings: Settings,
    documents: Annotated[
        list[str] | None, typer.Argument(help="Texts; left out, one a line of standard input.")
    ] = None,
    model: MODEL = "",
) -> None:
    """Order documents by closeness to a query: score, tab, document, the closest first. Needs a reranker."""
    wanted = documents or [line for line in piped_text().splitlines() if line.strip()]
    if not wanted:
        raise BadInput("There is nothing to rank.", do="Name documents, or pipe them in, one a line.")
    with loaded(model, load, settings) as engine:
        for ranked in engine.rerank(query, wanted):
            say(f"{ranked.score:.4f}\t{wanted[ranked.index]}")
