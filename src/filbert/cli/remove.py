"""`filbert rm`: delete models."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.console import note, size
from filbert.cli.options import with_options
from filbert.core.settings import Settings


@with_options()
def remove(
    names: Annotated[list[str], typer.Argument(help="Names as `filbert list` shows them.")], settings: Settings
) -> None:
    """Delete models from the store. A file that two names share stays while one of them is left."""
    from filbert.models import store

    for name in names:
        freed = store.remove(name)
        note(f"{name}: gone, {size(freed)} freed.", settings)
