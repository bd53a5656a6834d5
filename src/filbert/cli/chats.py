"""`filbert chats`: what was said before: list, search, show, export, import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from filbert.cli.command_group import CommandGroup
from filbert.cli.console import agreed, cut, has_person, note, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.core import jobs
from filbert.core.errors import BadInput, Cancelled
from filbert.core.files import write_whole
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.chat.history import History
    from filbert.chat.record import Chat

Format = Literal["markdown", "json"]
ID = Annotated[str, typer.Argument(help="The chat's id, or its beginning.", metavar="ID")]
LIMIT = Annotated[int, typer.Option("--limit", min=1, help="So many of the latest.")]
TITLE_WIDTH = 48
app = typer.Typer(cls=CommandGroup, help="What was said before: list, search, show, export, import.")


def history() -> History:
    """For `with`."""
    from filbert.chat.history import History

    return History()


@app.callback(invoke_without_command=True)
@with_options()
def chats(
    settings: Settings,
    context: typer.Context,
    limit: LIMIT = 20,
) -> None:
    """The latest chats. `filbert chat --resume ID` goes on with one."""
    if not context.invoked_subcommand:
        show_latest(settings, limit)


@app.command("list", hidden=True)
@with_options()
def list_chats(settings: Settings, limit: LIMIT = 20) -> None:
    """`filbert chats`."""
    show_latest(settings, limit)


def show_latest(settings: Settings, limit: int) -> None:
    from filbert.report.table import table

    with history() as kept:
        rows = [(c.id, when(c.updated), str(c.messages), cut(c.title, TITLE_WIDTH), c.model) for c in kept.chats(limit)]
    if rows:
        say(table(("id", "last", "messages", "title", "model"), rows))
    else:
        note("Nothing was said yet.", settings)


@app.command("search")
@with_options()
def search(
    settings: Settings,
    words: Annotated[list[str], typer.Argument(help="Words that were all said; a word may go on.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many of the best.")] = 20,
) -> None:
    """Chats in which words were said, the best first."""
    with history() as kept:
        hits = kept.search(" ".join(words), limit)
    for hit in hits:
        say(f"{hit.chat}  {when(hit.updated)}  {cut(hit.title, TITLE_WIDTH)}\n    {hit.role}: {hit.snippet}")
    if not hits:
        note("No chat has them.", settings)


@app.command("show")
@with_options()
def show(settings: Settings, id: ID) -> None:
    """Print a chat: the branch at which it stands."""
    from filbert.chat.transfer.markdown import markdown

    with history() as kept:
        say(markdown(kept.chat(id)), end="")


@app.command("rename")
@with_options()
def rename(settings: Settings, id: ID, title: Annotated[list[str], typer.Argument(help="The new title.")]) -> None:
    """Give a chat another title."""
    with history() as kept:
        kept.rename(id, " ".join(title))


@app.command("export")
@with_options()
def export(
    settings: Settings,
    id: Annotated[str, typer.Argument(help="The chat's id, or its beginning.", metavar="[ID]")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every chat.")] = False,
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="markdown to read one branch, json to keep everything. Left out: json for a file that ends in .json.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file in place of standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file, should it be there.")] = False,
) -> None:
    """Write chats as Markdown or JSON. `filbert chats import` reads the JSON again, with nothing lost."""
    if bool(id) == every:
        raise BadInput("It is not clear what to export.", do="Name a chat of `filbert chats`, or give --all.")
    file = writable(output, force) if output else None
    with history() as kept:
        wanted = (kept.chat(one) for one in (kept.ids() if every else [id]))
        pieces = written(wanted, format or format_of(file))
        if file is None:
            for piece in pieces:
                say(piece, end="")
            return
        write(pieces, file)
    note(f"{file}: written.", settings)


def format_of(output: Path | None) -> Format:
    return "json" if output and output.suffix.lower() == ".json" else "markdown"


def writable(output: Path, force: bool = False) -> Path:
    """Where a file may be written. One that is there is overwritten when a person says so, or with `force`. Raises
    BadInput, and Cancelled for a no."""
    try:
        file = output.expanduser().absolute()
    except RuntimeError as exc:  # ~somebody who does not exist
        raise BadInput(f"{output} cannot be written.", why=f"{exc}", do="Write the whole path.") from exc
    if not file.parent.is_dir():
        raise BadInput(f"There is no folder {file.parent}.", do="Make it first, or name a file elsewhere.")
    if file.exists() and not file.is_file():
        raise BadInput(f"{file} is no plain file.", do="Name a file.")
    if file.exists() and not force:
        if not has_person():
            raise BadInput(f"{file} is there already.", do="Give another name, or --force to overwrite it.")
        if not agreed(f"{file} is there already. Overwrite it?", default=False):
            raise Cancelled("Nothing was written.")
    return file


def write(pieces: Iterable[str], output: Path) -> None:
    """Raises DiskFull, StoreReadOnly."""
    with write_whole(output) as file:
        for piece in pieces:
            file.write(piece.encode())


def written(wanted: Iterable[Chat], format: Format) -> Iterator[str]:
    from filbert.chat.transfer.json_export import as_json
    from filbert.chat.transfer.markdown import markdown

    if format == "json":
        yield from as_json(wanted)
    else:
        for place, chat in enumerate(wanted):
            yield ("\n" if place else "") + markdown(chat)


@app.command("import")
@with_options()
def bring_in(
    settings: Settings,
    file: Annotated[
        Path,
        typer.Argument(
            help="A .chat file of GPT4All or a folder of them, ChatGPT's conversations.json or zip, or our own JSON."
        ),
    ],
) -> None:
    """Bring in chats from a file. To do so again adds what is new, and nothing twice."""
    from filbert.chat.transfer.bring_in import bring_in

    with history() as kept, progress(settings) as watch:
        done = jobs.run("import-chats", {"file": str(file)}, bring_in(file, kept), watch)
    for problem in done.problems:
        note(problem, settings)
    say(f"{done.chats} chats read, {done.messages} messages new.")


@app.command("rm")
@with_options()
def remove(
    settings: Settings, ids: Annotated[list[str], typer.Argument(help="Ids, or their beginnings.", metavar="ID…")]
) -> None:
    """Forget chats, with all their branches."""
    with history() as kept:
        for id in ids:
            note(f"{kept.delete(id)}: gone.", settings)


@app.command("set-aside")
@with_options()
def set_aside(settings: Settings) -> None:
    """Give the history's file another name, for when it is damaged: a new one begins with the next chat."""
    from filbert.chat.history import set_aside

    with history() as kept:
        say(f"The history is now {set_aside(kept)}.")


def when(moment: datetime) -> str:
    """In the time of the person who reads it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
