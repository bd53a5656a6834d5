"""`filbert rm`: delete models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import agreed, has_person, note
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import size
from filbert.core.settings import Settings


@with_options()
def remove(
    settings: Settings,
    names: Annotated[
        list[str] | None, typer.Argument(help="Names as `filbert list` shows them.", autocompletion=installed_names)
    ] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Delete what unfinished pulls left.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what names of your own stand for.")] = False,
) -> None:
    """Delete models from the store. A file that two names share stays while one of them is left. What is left over from
    pulls that were given up a week ago goes as well."""
    from filbert.models import store
    from filbert.models.manifest import read_manifests

    if not names and not unfinished:
        raise BadInput("There is nothing to delete.", do="Name a model of `filbert list`, or give --unfinished.")
    names = [name for name in names or () if force or _may_go(name, names or ())]
    for name in names:
        others = store.linked(name)
        freed = store.remove(name)
        stays = f" {', '.join(map(str, others))} stays where it is." if others else ""
        note(f"{name}: gone, {size(freed)} freed.{stays}", settings)
    if left_over := store.clean(0) if unfinished else store.clean():
        note(f"Left over from earlier: gone, {size(left_over)} freed.", settings)
    elif unfinished and (spoilt := read_manifests()[1]):
        raise BadModelFile(
            "What is left over stays: any of it may belong to a damaged record.",
            why=str(spoilt[0]),
            do="Remove that name first.",
        )
    elif unfinished:
        note("There is nothing left over.", settings)


def _may_go(name: str, names: Sequence[str]) -> bool:
    """Whether a model may be deleted, asked where names of a person's own stand for it that are not deleted with it.
    Raises BadInput where nobody can be asked."""
    from filbert.models import store

    others = [other for other in store.standing_on(name) if other not in names]
    if not others:
        return True
    told = f"{', '.join(others)} {'stands' if len(others) == 1 else 'stand'} for it."
    if has_person():
        return agreed(f"{told} Delete {name} all the same?", default=False)
    raise BadInput(f"{name} stays.", why=told, do="--force deletes it all the same.")
