"""`filbert ps` and `filbert stop`: what the running server holds."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from filbert.cli.console import note, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadInput, UnknownModel
from filbert.core.files import size
from filbert.core.nearest import did_you_mean
from filbert.core.settings import Settings


def loaded_names() -> list[str]:
    from filbert.engine.lease import ask_server

    told = ask_server({"do": "ps"})
    return [each["name"] for each in told["models"]] if told else []


@with_options()
def ps(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """List the models that the running server holds in memory."""
    from filbert.report.table import table

    told = _asked({"do": "ps"})
    models = told["models"]
    if as_json:
        say(json.dumps(models, indent=2))
        return
    if not models:
        note("No model is loaded.", settings)
    else:
        rows = [
            (each["name"], size(each["size_bytes"]), str(each["context"]), str(each["in_use"]), until_of(each))
            for each in models
        ]
        say(table(("name", "memory", "context", "in use", "stays"), rows))
    if told["servers"]:
        servers = [(each["name"], each["url"], str(len(each["models"])), state_of(each)) for each in told["servers"]]
        say(table(("remote server", "address", "models", "state"), servers))


@with_options()
def stop(
    settings: Settings,
    names: Annotated[list[str], typer.Argument(help="Names as `filbert ps` shows them.", autocompletion=loaded_names)],
) -> None:
    """Unload models from the running server. One in use goes when its answers are over."""
    for name in names:
        told = _asked({"do": "stop", "model": name})
        if not told["stopped"]:
            raise UnknownModel(
                f"The server holds no {name}.",
                do=did_you_mean(name, loaded_names()) or "`filbert ps` lists what it does.",
            )
        note(f"{name}: unloaded.", settings)


def state_of(server: dict[str, Any]) -> str:
    """Whether another server can be asked."""
    return f"down: {server['trouble']}" if server["trouble"] else f"up, {server['in_use']} in use"


def until_of(model: dict[str, Any]) -> str:
    """How long a model stays in memory."""
    if model["in_use"]:
        return "while in use"
    if model["leaves_s"] is None:
        return "for good"
    seconds = round(model["leaves_s"])
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def _asked(said: dict[str, Any]) -> dict[str, Any]:
    from filbert.engine.lease import ask_server

    told = ask_server(said)
    if told is None:
        raise BadInput("No server runs.", do="`filbert serve --background` starts one.")
    return told
