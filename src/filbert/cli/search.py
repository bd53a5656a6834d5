"""`filbert search`: models to be had, by words."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.catalogue_table import as_records, as_table
from filbert.cli.console import line_width, note, patience, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadInput
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.models.catalogue import Entry

MOST = 20


@with_options()
def search(
    settings: Settings,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="A name, a maker, an ability (embed, tools, thinking, vision …), a language, a licence. Left out: the "
            "families there are."
        ),
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="On the hub, not in the catalogue.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """Find a model in the catalogue, or on the hub. All the words must be found, also misspelt; the best is first."""
    asked = " ".join(words or ())
    if hub and not asked.strip():
        raise BadInput(
            "There is nothing to look for on the hub.", do="Give a word, such as `filbert search qwen --hub`."
        )
    if hub:
        search_hub(asked, settings, as_json)
    elif asked.strip():
        search_catalogue(asked, settings, as_json)
    else:
        show_families(settings, as_json)


def show_families(settings: Settings, as_json: bool) -> None:
    """The catalogue, a line a family; with as_json all of it."""
    from filbert.models.catalogue import CAPABILITIES, entries
    from filbert.models.manifest import installed_names
    from filbert.report.table import table

    if as_json:
        say(json.dumps(as_records(entries(), installed_names()), indent=1))
        return
    families: dict[str, list[Entry]] = {}
    for entry in entries():
        families.setdefault(entry.name.partition(":")[0], []).append(entry)
    rows = [
        (
            family,
            next((entry.maker for entry in of_it if entry.maker), "?"),
            " ".join(dict.fromkeys(entry.short.partition(":")[2] for entry in of_it)),
            " ".join(can for can in CAPABILITIES if any(can in entry.capabilities for entry in of_it)),
        )
        for family, of_it in families.items()
    ]
    say(table(("family", "maker", "sizes", "can"), rows, line_width(), ("sizes", "maker")))
    note("`filbert search FAMILY` shows its models, `filbert search thinking` those that think.", settings)


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
