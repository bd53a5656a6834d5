"""A group of commands that says in our own words what is wrong with a command line, and names the nearest to what
nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from filbert.core.errors import BadInput
from filbert.core.nearest import did_you_mean, nearest

# typer's own types differ from version to version: some are click's, some a copy of them.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


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
        told = [name for name, command in self.commands.items() if not command.hidden]
        otherwise = f"`{ctx.command_path} -h` lists them."
        raise BadInput(f"There is no command `{ctx.command_path} {word}`.", do=did_you_mean(word, told, otherwise))


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
    path = exc.ctx.command_path if exc.ctx else command
    return BadInput(f"{exc.format_message().rstrip('.')}.", do=f"`{path} -h` shows what it takes.")
