"""`filbert list`: the models that are here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from filbert.cli.console import note, say
from filbert.cli.flags_from_options import with_options
from filbert.core.files import size
from filbert.core.settings import Settings


@with_options()
def list_models(
    settings: Settings, as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False
) -> None:
    """The models that are here."""
    from filbert.models import store
    from filbert.report.table import table

    models, damaged = store.whole_and_damaged()
    if as_json:
        kept = [{"name": m.name, "bytes": m.size_bytes, "sha256": m.sha256, "source": m.source} for m in models]
        say(json.dumps(kept, indent=1))
    elif models:
        rows = [(m.name, size(m.size_bytes), m.licence or "?", m.source) for m in models]
        say(table(("name", "size", "licence", "source"), rows))
    else:
        note("No models yet. `filbert pull smollm2:135m` fetches the starter (98 MB).", settings)
    for error in damaged:
        note(f"damaged: {error}", settings)
