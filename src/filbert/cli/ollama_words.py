"""Commands by the names that Ollama's people type. Hidden from the help: each is one of ours."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from filbert.cli import chat
from filbert.cli.completion import installed_names
from filbert.cli.flags_from_options import with_options
from filbert.cli.set import keep
from filbert.core.settings import Settings

NAME = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A model's name, or the path of a GGUF file.", autocompletion=installed_names),
]


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
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Ollama's Modelfile.")] = Path("Modelfile"),
) -> None:
    """`filbert set NAME --modelfile FILE`."""
    keep(settings, name, {}, modelfile=file)
