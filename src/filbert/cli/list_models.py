"""`filbert list`: the models that are here, or that can be."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.catalogue_table import as_records, as_table
from filbert.cli.console import cut, line_width, note, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadModelFile
from filbert.core.files import size
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.models.store import StoredModel

MOST_LICENCE = 40  # characters


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

    entries, here = catalogue.entries(), installed_names()
    if as_json:
        say(json.dumps(as_records(entries, here), indent=1))
        return
    say(as_table(entries, here))
    note("`filbert pull NAME` fetches one; `filbert search WORDS --hub` looks on the hub.", settings)


def list_installed(settings: Settings, as_json: bool) -> None:
    from filbert.models import results
    from filbert.models.installed import whole_and_damaged
    from filbert.models.preset import ModelGone
    from filbert.report.table import table

    models, damaged = whole_and_damaged()
    if as_json:
        kept = [
            {
                "name": m.name,
                "bytes": m.size_bytes,
                "kind": m.kind,
                "sha256": m.known_sha256,
                "source": m.source,
                "measured": len(results.of(m.known_sha256)) if m.known_sha256 else 0,
                "stands_for": m.preset.stands_for if m.preset else "",
            }
            for m in models
        ]
        say(json.dumps(kept, indent=1))
    elif models:
        rows = [(m.name, size(m.size_bytes), m.kind, _licence(m), _origin(m)) for m in models]
        say(table(("name", "size", "kind", "licence", "source"), rows, line_width(), ("source", "licence")))
    elif not damaged:
        note("No models yet. `filbert pull smollm2:135m` fetches the starter (98 MB).", settings)
    for error in damaged:
        note(f"{'its model is gone' if isinstance(error, ModelGone) else 'damaged'}: {error}", settings)


def _licence(model: StoredModel) -> str:
    """A name that stands for a file where it lies has that of the file; what a Modelfile says, by its first line."""
    from filbert.models.gguf import read_header

    said = (model.preset.licence if model.preset else "").strip().partition("\n")[0]
    with suppress(BadModelFile):
        return model.licence or cut(said, MOST_LICENCE) or read_header(model.path).licence or "?"
    return "?"


def _origin(model: StoredModel) -> str:
    if model.preset and model.preset.is_stand_in:
        return f"→ {model.preset.stands_for}"
    with suppress(ValueError, RuntimeError):  # it is elsewhere; nobody knows where home is
        if line_width() is not None:
            return str(Path("~", Path(model.source).relative_to(Path.home())))
    return model.source
