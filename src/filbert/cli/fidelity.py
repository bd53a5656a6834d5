"""`filbert fidelity`: what compression cost, against the model it was made from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import line_width, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import NO_WORKER, consent, present
from filbert.cli.measuring_flags import DATA, LIMIT, WINDOW, WINDOW_TOKENS
from filbert.core.errors import BadInput
from filbert.core.files import read_text_file
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.engine.fidelity import Fidelity
    from filbert.evaluate.evaluation import Evaluation
    from filbert.evaluate.tasks_compared import TaskChange
    from filbert.models.installed import StoredModel


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
    text: Annotated[
        Path | None, typer.Option("--text", help="A UTF-8 text file, or --tasks, or both.", show_default=False)
    ] = None,
    window: WINDOW = WINDOW_TOKENS,
    every_token: Annotated[
        bool, typer.Option("--every-token", help="Score the first half of each window too.")
    ] = False,
    tasks: Annotated[
        str, typer.Option("--tasks", help="Also on these, as `filbert evaluate` names them.", show_default=False)
    ] = "",
    limit: LIMIT = None,
    data: DATA = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """What compression cost, against the full model.

    How far the predictions of both are apart on a text; both are loaded at once. By the definitions of
    `llama-perplexity --kl-divergence`. And, of tasks, which answers only one of them gets right.
    """
    if not text and not tasks:
        raise BadInput("There is nothing to compare on.", do="Add `--text FILE`, `--tasks paper`, or both.")
    from filbert.evaluate.evaluation import Evaluation
    from filbert.models import results

    words = read_text_file(text, str(text)) if text else ""
    if asked := Evaluation(tasks, limit, data=data) if tasks else None:
        asked.loaded()
    stored = [present(name, settings, load.threads, consent(settings)) for name in (compressed, base)]
    on_text = _on_text(stored, load, settings, text, words, window, every_token) if text else None
    changed = on_tasks(stored, load, settings, asked) if asked else []
    if as_json:
        told = on_text.to_json() if on_text else {"model": stored[0].name, "base": stored[1].name}
        say(json.dumps(told | ({"tasks": [change.to_json() for change in changed]} if tasks else {}), indent=1))
    else:
        if on_text:
            say(str(on_text))
        if changed:
            tell_changes(changed)
    if text and on_text:  # last: what a full disk cannot keep was told
        results.keep(on_text.to_result(text.name))


def _on_text(
    stored: Sequence[StoredModel],
    load: LoadOptions,
    settings: Settings,
    text: Path,
    words: str,
    window: int,
    every_token: bool,
) -> Fidelity:
    from filbert.core.jobs import run
    from filbert.engine.fidelity import again, fidelity_job
    from filbert.engine.model import Model

    with Model(stored[0], load) as model, Model(stored[1], load) as full, progress(settings) as watch:
        about = {
            "model": model.name,
            "base": full.name,
            "text": str(text),
            "window": window,
            "every token": every_token,
        }
        command = again(model.name, full.name, window, str(text), every_token=every_token)
        job = fidelity_job(model, full, words, window, command, every_token=every_token)
        return run("fidelity", about, job, watch)


def on_tasks(
    stored: Sequence[StoredModel], load: LoadOptions, settings: Settings, asked: Evaluation
) -> list[TaskChange]:
    """One model after the other."""
    from filbert.core.jobs import run
    from filbert.engine.model import Model
    from filbert.evaluate.tasks_compared import changes

    found = []
    for each in stored:
        with Model(each, load) as model, progress(settings) as watch:
            about = {"model": model.name, "tasks": asked.tasks, "limit": asked.limit}
            found.append(run("evaluate", about, asked.job(model), watch))
    name, base = (each.name for each in stored)
    again = shlex.join(["filbert", "fidelity", name, "--base", base, *asked.flags])
    return changes(found[0], found[1], base, again)


def tell_changes(changes: Sequence[TaskChange]) -> None:
    from filbert.evaluate.tasks_compared import HEAD, NOTE
    from filbert.report.table import table

    say(table(HEAD, [change.cells() for change in changes], line_width()))
    say(NOTE)
    say(f"\n{changes[0].made_by}")
