"""`filbert list`: the models that are here, or that can be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.console import note, say
from filbert.cli.flags_from_options import with_options
from filbert.core.files import size
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.models.store import StoredModel


@with_options()
def list_models(
    settings: Settings,
    available: Annotated[bool, typer.Option("--available", help="Those of the catalogue, to be pulled.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """The models that are here, or can be."""
    if available:
        list_available(settings, as_json)
    else:
        list_installed(settings, as_json)


def list_available(settings: Settings, as_json: bool) -> None:
    from filbert.models import catalogue
    from filbert.models.manifest import installed_names
    from filbert.report.table import table

    entries, here = catalogue.entries(), set(installed_names())
    if as_json:
        kept = [
            {
                "name": e.name,
                "bytes": e.size_bytes,
                "licence": e.licence,
                "capabilities": e.capabilities,
                "context": e.context,
                "parameters": e.parameters,
                "languages": e.languages,
                "source": e.source,
                "installed": e.name in here,
            }
            for e in entries
        ]
        say(json.dumps(kept, indent=1))
        return
    rows = [
        (
            e.name,
            size(e.size_bytes) if e.size_bytes else "?",
            e.licence or "?",
            " ".join(e.capabilities),
            "yes" if e.name in here else "no",
        )
        for e in entries
    ]
    say(table(("name", "size", "licence", "can", "installed"), rows))
    note("`filbert pull NAME` fetches one; hf:owner/repo:Q4_K_M names any other on the hub.", settings)


def list_installed(settings: Settings, as_json: bool) -> None:
    from filbert.models import store
    from filbert.report.table import table

    models, damaged = store.whole_and_damaged()
    if as_json:
        kept = [
            {
                "name": m.name,
                "bytes": m.size_bytes,
                "sha256": m.sha256,
                "source": m.source,
                "stands_for": m.preset.stands_for if m.preset else "",
            }
            for m in models
        ]
        say(json.dumps(kept, indent=1))
    elif models:
        rows = [(m.name, size(m.size_bytes), m.licence or "?", _origin(m)) for m in models]
        say(table(("name", "size", "licence", "source"), rows))
    else:
        note("No models yet. `filbert pull smollm2:135m` fetches the starter (98 MB).", settings)
    for error in damaged:
        note(f"damaged: {error}", settings)


def _origin(model: StoredModel) -> str:
    return f"→ {model.preset.stands_for}" if model.preset and model.preset.is_stand_in else model.source
