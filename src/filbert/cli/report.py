"""`filbert report`: what is known of a model, on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import note, patience, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadInput
from filbert.core.settings import Settings

SUFFIXES = (".html", ".md", ".json")


@with_options()
def report(
    settings: Settings,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…", help="Models, side by side.", show_default=False, autocompletion=installed_names
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A .html, .md or .json file; Markdown is printed without.", show_default=False),
    ] = None,
) -> None:
    """What is known of models: one page.

    What their files say, every result that is kept of them, and the command that makes each number again. The page
    needs nothing else: no script, no other file.
    """
    suffix = out.suffix.lower() if out else ".md"
    if suffix not in SUFFIXES:
        raise BadInput(
            f"{suffix or 'A name without an end'} says no format of a report.", do="Name a .html, .md or .json file."
        )
    from filbert.core.files import write_whole
    from filbert.evaluate.model_report import Subject, page, to_json
    from filbert.models import store
    from filbert.report.page import html, markdown

    stored = [store.resolve(name) for name in dict.fromkeys(models)]
    with patience("reading the models", settings):  # where nobody knows their hashes yet
        subjects = [Subject.of(each) for each in stored]
    match suffix:
        case ".html":
            text = html(page(subjects))
        case ".json":
            text = json.dumps(to_json(subjects), indent=1) + "\n"
        case _:
            text = markdown(page(subjects))
    if out is None:
        say(text, end="")
        return
    with write_whole(out) as file:
        file.write(text.encode())
    note(f"{out} is written.", settings)
