"""`filbert keys`: who may use the server."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from filbert.cli.command_group import CommandGroup
from filbert.cli.completion import installed_names
from filbert.cli.console import note, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadInput
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.server.keys import Key, Keys

app = typer.Typer(cls=CommandGroup, help="Who may use the server.", no_args_is_help=True)


def keys() -> closing[Keys]:
    """For `with`."""
    from filbert.server.keys import Keys

    return closing(Keys())


def names_in_use() -> list[str]:
    with keys() as kept:
        return [key.name for key in kept.in_use()]


@app.command("add")
@with_options()
def add(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[
        Literal["infer", "admin"],
        typer.Option("--scope", help="infer asks models; admin may also pull, delete, create, and read the metrics."),
    ] = "infer",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Only this model is there for it. May be repeated; left out, every one is.",
            autocompletion=installed_names,
        ),
    ] = None,
    requests_a_minute: Annotated[
        int | None, typer.Option("--requests-a-minute", min=1, help="Requests in any 60 seconds. Left out: any number.")
    ] = None,
    tokens_a_day: Annotated[
        int | None,
        typer.Option("--tokens-a-day", min=1, help="Tokens read and written from midnight to midnight, UTC."),
    ] = None,
) -> None:
    """Make a key. It is printed this once: only its hash is kept."""
    from filbert.server.keys import Wanted

    models = tuple(_full_name(each) for each in model or ())
    with keys() as kept:
        key, text = kept.add(Wanted(name, scope, models, requests_a_minute, tokens_a_day))
    say(text)
    note(f"{key.name}: keep it now, it is not shown again. `filbert keys revoke` ends it.", settings)


@app.command("list")
@with_options()
def list_keys(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Every key, without the key itself."""
    from filbert.report.table import table

    with keys() as kept:
        every = kept.all()
    if as_json:
        say(json.dumps([_told(key) for key in every], indent=2, default=datetime.isoformat))
    elif every:
        say(table(("name", "id", "may", "limits", "tokens today", "last used", "revoked"), map(_row, every)))
    else:
        note("There is no key. `filbert keys add NAME` makes one.", settings)


@app.command("revoke")
@with_options()
def revoke(
    settings: Settings,
    names: Annotated[list[str], typer.Argument(help="Names of keys.", autocompletion=names_in_use)],
) -> None:
    """End keys. Servers that run know within a second or two."""
    with keys() as kept:
        for name in names:
            kept.revoke(name)
            note(f"{name}: revoked.", settings)


def _full_name(model: str) -> str:
    """The name that is kept for a model; of one that is not here, what was given."""
    from filbert.models import store

    try:
        return store.installed(model).name
    except BadInput:
        return model


def _told(key: Key) -> dict[str, object]:
    return {name: value for name, value in asdict(key).items() if name != "sha256"}


def _row(key: Key) -> tuple[str, ...]:
    limits = (
        f"{key.requests_a_minute:,} requests a minute" if key.requests_a_minute else "",
        f"{key.tokens_a_day:,} tokens a day" if key.tokens_a_day else "",
        ", ".join(key.models),
    )
    used, revoked = _when(key.last_used), _when(key.revoked)
    return key.name, key.id, key.scope, "; ".join(filter(None, limits)) or "-", f"{key.tokens_today:,}", used, revoked


def _when(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else "-"
