"""`filbert search`: models to be had, by words."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from filbert.cli.catalogue_table import as_records, as_table
from filbert.cli.console import line_width, note, patience, say
from filbert.cli.flags_from_options import with_options
from filbert.core.settings import Settings

MOST = 20


@with_options()
def search(
    words: Annotated[
        list[str],
        typer.Argument(help="A name, a maker, an ability (embed, tools, thinking, vision …), a language, a licence."),
    ],
    settings: Settings,
    hub: Annotated[bool, typer.Option("--hub", help="On the hub, not in the catalogue.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """Find a model in the catalogue, or on the hub. All the words must be found, also misspelt; the best is first."""
    if hub:
        search_hub(" ".join(words), settings, as_json)
    else:
        search_catalogue(" ".join(words), settings, as_json)


def search_catalogue(words: str, settings: Settings, as_json: bool) -> None:
    from filbert.models.manifest import installed_names
    from filbert.models.search import search

    found, here = search(words), installed_names()
    if as_json:
        say(json.dumps(as_records(found, here), indent=1))
    elif found:
        say(as_table(found, here))
    else:
        note("The catalogue has nothing like it; --hub looks on the hub.", settings)


def search_hub(words: str, settings: Settings, as_json: bool) -> None:
    from filbert.models.sources import hub_search
    from filbert.report.table import table

    with patience("asking the hub", settings):
        found = hub_search.search_hub(words, MOST)
    if as_json:
        say(json.dumps([asdict(each) for each in found], indent=1))
    elif found:
        rows = [
            (
                each.name,
                "?" if each.downloads is None else f"{each.downloads:,}",
                each.licence or "?",
                "yes" if each.gated else "no",
                " ".join(each.quantisations) or "?",
            )
            for each in found
        ]
        head = ("name", "downloads", "licence", "gated", "quantisations")
        say(table(head, rows, line_width(), ("quantisations",)))
        note("`filbert pull NAME:QUANTISATION` fetches one.", settings)
    else:
        note("The hub has no GGUF repository of that name.", settings)
