"""A group of commands that names the nearest to one that nobody knows."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from filbert.core.errors import BadInput
from filbert.core.nearest import did_you_mean


class CommandGroup(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer's own types differ from version to version
        """Raises BadInput for a command that is not there."""
        word = args[0]
        if ctx.resilient_parsing or word.startswith("-") or self.get_command(ctx, word):
            return super().resolve_command(ctx, args)
        told = [name for name, command in self.commands.items() if not command.hidden]
        otherwise = f"`{ctx.command_path} -h` lists them."
        raise BadInput(f"There is no command `{ctx.command_path} {word}`.", do=did_you_mean(word, told, otherwise))
