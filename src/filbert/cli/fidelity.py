"""`filbert fidelity`: what compression cost, against the model it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import NO_WORKER, consent, present
from filbert.core.files import read_text_file
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

WINDOW = 512


@with_options(LoadOptions, without=NO_WORKER | {"context", "adapters"})
def fidelity(
    load: LoadOptions,
    settings: Settings,
    compressed: Annotated[
        str, typer.Argument(metavar="COMPRESSED", help="The smaller file.", autocompletion=installed_names)
    ],
    base: Annotated[
        str,
        typer.Option("--base", help="The model it was made from.", show_default=False, autocompletion=installed_names),
    ],
    text: Annotated[Path, typer.Option("--text", help="A UTF-8 text file.", show_default=False)],
    window: Annotated[
        int, typer.Option("--window", min=16, help="Tokens a window; the second half of each is scored.")
    ] = WINDOW,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """What compression cost, against the full model.

    How far the predictions of both are apart on a text; both are loaded at once. By the definitions of
    `llama-perplexity --kl-divergence`.
    """
    from filbert.core.jobs import run
    from filbert.engine.model import Model
    from filbert.evaluate.fidelity import again, fidelity_job
    from filbert.models import results

    words = read_text_file(text, str(text))
    stored = [present(name, settings, load.threads, consent(settings)) for name in (compressed, base)]
    with Model(stored[0], load) as model, Model(stored[1], load) as full, progress(settings) as watch:
        about = {"model": model.name, "base": full.name, "text": str(text), "window": window}
        job = fidelity_job(model, full, words, window, again(model.name, full.name, window, str(text)))
        found = run("fidelity", about, job, watch)
    say(json.dumps(found.to_json(), indent=1) if as_json else str(found))
    results.keep(found.to_result(text.name))
