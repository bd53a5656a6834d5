"""Commands by the names that Ollama's people type. Hidden from the help: each is one of ours."""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from filbert.cli import chat
from filbert.cli.completion import installed_names
from filbert.cli.console import note
from filbert.cli.flags_from_options import with_options
from filbert.cli.set import keep
from filbert.core.errors import BadInput
from filbert.core.settings import Settings

NAME = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A model's name, or the path of a GGUF file.", autocompletion=installed_names),
]


Words = Annotated[list[str] | None, typer.Argument()]


def run(**given: Any) -> None:
    """`filbert chat --model NAME`."""
    chat.chat(**given)


def _named_first(command: inspect.Signature) -> inspect.Signature:
    """The signature of a command whose model is its first argument."""
    others = [parameter for name, parameter in command.parameters.items() if name != "model"]
    model = command.parameters["model"].replace(annotation=NAME, default=inspect.Parameter.empty)
    return command.replace(parameters=[model, *others])


run.__signature__ = _named_first(inspect.signature(chat.chat))  # type: ignore[attr-defined]
run.__annotations__ = {each.name: each.annotation for each in run.__signature__.parameters.values()}  # type: ignore[attr-defined]


@with_options()
def create(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="A name of your own.")],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Ollama's Modelfile; left out, the one in this folder."),
    ] = None,
) -> None:
    """`filbert set NAME --modelfile FILE`."""
    if not file:
        file = Path("Modelfile")
        if not file.is_file():
            raise BadInput("There is no Modelfile in this folder.", do="Name one with -f FILE.")
        note("Reading the Modelfile in this folder; -f names another.", settings)
    keep(settings, name, {}, modelfile=file)


def copy(words: Words = None) -> None:
    """A model under another name is `filbert set NEW of=OLD`."""
    old, new = words if words and len(words) == 2 else ("OLD", "NEW")
    raise BadInput(
        "Models are not copied: a name stands for one.",
        do=f"`{shlex.join(['filbert', 'set', new, f'of={old}'])}` gives another.",
    )


def show_help(words: Words = None) -> None:
    """`filbert COMMAND -h`."""
    from filbert.cli.app import app

    app([*(words or ()), "-h"], prog_name="filbert")
