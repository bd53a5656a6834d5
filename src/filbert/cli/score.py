"""`filbert score`: how likely a model finds each ending of a prompt."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.console import patience, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, NO_WORKER, opened
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions


@with_options(LoadOptions, without=NO_WORKER)
def score(
    prompt: Annotated[str, typer.Argument(help="What comes before.")],
    endings: Annotated[list[str], typer.Argument(help="What could follow.")],
    load: LoadOptions,
    settings: Settings,
    model: MODEL = "",
) -> None:
    """How likely a model finds each ending. A line each: log-likelihood in nats after the prompt, tokens, ending."""
    from filbert.report.table import table

    with opened(model, load, settings) as engine, patience("scoring", settings):
        scored = engine.score(prompt, endings)
    rows = [(_number(s.loglikelihood), str(s.tokens), repr(e)) for s, e in zip(scored, endings, strict=True)]
    say(table(("log-likelihood", "tokens", "ending"), rows))


def _number(loglikelihood: float | None) -> str:
    return "invalid" if loglikelihood is None else f"{loglikelihood:.4f}"
