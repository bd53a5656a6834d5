"""A group of commands that says in our own words what is wrong with a command line, and names the nearest to what
nobody knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup

from filbert.core.errors import BadInput
from filbert.core.nearest import did_you_mean, nearest

# typer's own types differ from version to version: some are click's, some a copy of them.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
LISTED = MappingProxyType(
    {
        "model": "`filbert list` shows the models that are here, `filbert search` those to get.",
        "resume": "`filbert chats` lists the chats with their IDs.",
        "id": "`filbert chats` lists the chats with their IDs.",
        "setting": "`filbert config` lists the settings.",
    }
)
KINDS = (  # what typer says of a value, and what it takes in our words
    (r"valid (number|float)", "a number"),
    (r"valid integer", "a whole number"),
    (r"greater than or equal to (\S+)", r"\1 or more"),
    (r"is not one of (.*)", r"\1"),
)
# What others call a command of ours.
MEANS = {"delete": "rm", "remove": "rm", "download": "pull", "get": "pull", "install": "pull", "models": "list"}
DELETING = ("rm", "unset", "set-aside")


class CommandGroup(TyperGroup):
    def make_context(self, *given: Any, **more: Any) -> Any:
        with _in_our_words(lambda: "filbert"):
            return super().make_context(*given, **more)

    def invoke(self, ctx: Any) -> Any:
        """Raises BadInput for flags and arguments that a command does not take."""
        with _in_our_words(lambda: f"{ctx.command_path} {ctx.invoked_subcommand}"):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises BadInput for a command that is not there."""
        word = args[0]
        if ctx.resilient_parsing or word.startswith("-") or self.get_command(ctx, word):
            return super().resolve_command(ctx, args)
        otherwise = f"`{ctx.command_path} -h` lists them."
        near = MEANS.get(word) if MEANS.get(word) in self.commands else None
        do = f"Did you mean {near}?" if near else did_you_mean(word, self.commands, otherwise, DELETING)
        raise BadInput(f"There is no command `{ctx.command_path} {word}`.", do=do)


@contextmanager
def _in_our_words(command: Callable[[], str]) -> Iterator[None]:
    """command: what was called, where an error does not know it."""
    try:
        yield
    except UsageError as exc:
        if type(exc).__name__ == "NoArgsIsHelpError":  # it is the help
            raise
        raise _no_such_flag(exc) if hasattr(exc, "possibilities") else _misused(exc, command()) from exc


def _no_such_flag(exc: Any) -> BadInput:
    path, options = exc.ctx.command_path, [each for each in exc.ctx.command.params if each.opts[0].startswith("-")]
    flags = {name.lstrip("-"): name for each in options for name in each.opts}
    near = nearest(exc.option_name.lstrip("-"), flags)
    do = f"Did you mean {flags[near[0]]}?" if near else f"`{path} -h` lists its flags."
    return BadInput(f"`{path}` has no flag {exc.option_name[:60]}.", do=do)


def _misused(exc: Any, command: str) -> BadInput:
    path, kind = exc.ctx.command_path if exc.ctx else command, type(exc).__name__
    told, do = exc.format_message().rstrip("."), f"`{path} -h` shows what it takes."
    if kind == "MissingParameter":
        missing = exc.param.metavar or exc.param.name.upper()
        return BadInput(f"`{path}` needs {missing.strip('[]')}.", do=LISTED.get(exc.param.name, do))
    if kind == "BadOptionUsage" and "requires an argument" in told:
        return BadInput(f"{exc.option_name} needs a value.", do=LISTED.get(exc.option_name.lstrip("-"), do))
    if kind == "BadParameter" and exc.param and (takes := _takes(exc.param.name, exc.message)):
        name = exc.param.opts[0]
        return BadInput(f"{name} cannot be {_given(exc)[:60]!r}.", why=f"It takes {takes}.", do=do)
    return BadInput(f"{told}.", do=do)


def _given(exc: Any) -> str:
    """What pydantic was given, or an older typer quotes."""
    if hasattr(exc.__cause__, "errors"):
        return str(exc.__cause__.errors()[0]["input"])
    quoted = re.match(r"'(.*)' is not|(\S+)", exc.message)
    return (quoted[1] or quoted[2]) if quoted else exc.message


def _takes(name: str, message: str) -> str:
    """As the settings tell it where it is one, else out of what typer says; "" for what is not known."""
    from filbert.cli.config import tables
    from filbert.core.settings import takes

    if fields := [options.model_fields[name] for options in tables() if name in options.model_fields]:
        return takes(fields[0])
    found = ((re.search(pattern, message), ours) for pattern, ours in KINDS)
    return next((match.expand(ours).rstrip(".") for match, ours in found if match), "")
