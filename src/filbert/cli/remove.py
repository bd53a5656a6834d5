"""`filbert rm`: delete models."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import note, size
from filbert.cli.flags import with_options
from filbert.core.settings import Settings


@with_options()
def remove(
    names: Annotated[
        list[str], typer.Argument(help="Names as `filbert list` shows them.", autocompletion=installed_names)
    ],
    settings: Settings,
) -> None:
    """Delete models from the store. A file that two names share stays while one of them is left. What is left over from
    pulls that were given up a week ago goes as well."""
    from filbert.models import store

    for name in names:
        freed = store.remove(name)
        note(f"{name}: gone, {size(freed)} freed.", settings)
    if left_over := store.clean():
        note(f"Left over from earlier: gone, {size(left_over)} freed.", settings)
