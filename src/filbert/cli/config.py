"""`filbert config`: read and change settings."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from filbert.cli.command_group import CommandGroup
from filbert.cli.console import note, say
from filbert.cli.flags_from_options import with_options
from filbert.core import paths
from filbert.core.errors import BadInput, BadSetting
from filbert.core.nearest import did_you_mean, nearest
from filbert.core.settings import (
    Options,
    Settings,
    checked,
    configured,
    forgiving,
    from_environment,
    from_file,
    key,
    read_file,
    takes,
    variable,
)

if TYPE_CHECKING:
    import tomlkit
    from pydantic import BaseModel

PREFIX = "FILBERT_"
app = typer.Typer(
    cls=CommandGroup,
    help="Read and change settings. Defaults, then the file, then what `filbert set` keeps with a model, then "
    "FILBERT_… variables, then flags: the later wins.",
)


def tables() -> list[type[Options]]:
    """Every options class, in the order the docs show them."""
    from filbert.chat.tool_options import ToolOptions
    from filbert.compress.compress_options import CompressOptions
    from filbert.engine.load_options import LoadOptions
    from filbert.engine.sampling import Sampling
    from filbert.models.download_options import DownloadOptions
    from filbert.server.cluster_options import ClusterOptions
    from filbert.server.serve_options import ServeOptions

    return [
        Settings,
        LoadOptions,
        Sampling,
        ToolOptions,
        DownloadOptions,
        CompressOptions,
        ServeOptions,
        ClusterOptions,
    ]


def setting_names() -> list[str]:
    """What a shell offers to complete."""
    return list(_fields())


def _fields() -> dict[str, tuple[type[Options], str]]:
    """Each setting's class and field, by the setting's name."""
    return {key(options, name): (options, name) for options in tables() for name in options.model_fields}


def set_names() -> list[str]:
    """Those of the file, for a shell to complete."""
    with suppress(BadSetting):
        file = read_file()
        inner = [f"{table}.{name}" for table, kept in file.items() if isinstance(kept, dict) for name in kept]
        return [name for name, kept in file.items() if not isinstance(kept, dict)] + inner
    return []


SETTING = Annotated[
    str, typer.Argument(help="A name as `filbert config` shows it, such as load.context.", autocompletion=setting_names)
]


@app.callback(invoke_without_command=True)
@with_options(read=forgiving)
def config(settings: Settings, context: typer.Context) -> None:
    """Every setting, its value, and where the value comes from."""
    if context.invoked_subcommand:
        return
    say(page([row for options in tables() for row in _rows(options)]))
    note(f"file: {paths.config_file()}", settings)
    for sentence in wrong_settings():
        note(f"error: {sentence}", settings)


def page(rows: Sequence[tuple[str, ...]]) -> str:
    """A line a setting; on a terminal too narrow for that, what it takes and is in lines below it."""
    from filbert.report.table import table

    head = ("setting", "value", "from", "takes", "what it is")
    whole, width = table(head, rows), shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or max(map(len, whole.splitlines())) <= width:
        return whole
    first, *lines = table(head[:3], [row[:3] for row in rows]).splitlines()
    below = [textwrap.indent(textwrap.fill(f"{about} Takes {takes}.", width - 4), "    ") for *_, takes, about in rows]
    return "\n".join([first, *(f"{line}\n{about}" for line, about in zip(lines, below, strict=True))])


def wrong_settings() -> list[str]:
    """A sentence for each table of settings with something wrong in it or that nobody reads, each once."""
    sentences = []
    for options in tables():
        try:
            configured(options)
        except BadSetting as exc:
            sentences.append(str(exc))
    return [*dict.fromkeys(sentences), *map(str, _unread_tables()), *map(str, _unread_variables())]


def _unread_tables() -> list[BadSetting]:
    known = {options.table for options in tables() if options.table}
    with suppress(BadSetting):  # which is told already
        return [
            BadSetting(
                f"Nothing reads the table [{name}] of {paths.config_file()}.",
                do=" ".join((did_you_mean(name, known), f"`filbert config unset {name}` takes it out.")).strip(),
            )
            for name, kept in read_file().items()
            if isinstance(kept, dict) and name not in known
        ]
    return []


def _unread_variables() -> Iterator[BadSetting]:
    """Those that resemble one of ours: other programs may have their own. What begins as a table is refused where that
    is read."""
    ours = {variable(options, name).removeprefix(PREFIX) for options in tables() for name in options.model_fields}
    read = tuple(f"{options.table.upper()}_" for options in tables() if options.table)
    for name in (name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)):
        if name not in {*ours, "HOME"} and not name.startswith(read) and (near := nearest(name, ours)):
            yield BadSetting(f"Nothing reads the variable {PREFIX}{name}.", do=f"Did you mean {PREFIX}{near[0]}?")


def _rows(options: type[Options]) -> list[tuple[str, ...]]:
    values, environment = forgiving(options), from_environment(options)

    def origin(name: str) -> str:
        if name not in values.model_fields_set:
            return "default"
        return variable(options, name) if name in environment else "file"

    return [
        (key(options, name), shown(getattr(values, name)), origin(name), takes(field), field.description or "")
        for name, field in options.model_fields.items()
    ]


@app.command("get")
@with_options(read=forgiving)
def get(
    setting: SETTING,
    settings: Settings,
) -> None:
    """Print the value of a setting, and to standard error where it comes from."""
    options, name = _find(setting)
    _, value, origin, _, about = next(row for row in _rows(options) if row[0] == key(options, name))
    say(value)
    default = "the default" if value else f"not set: {about}"
    note({"file": f"from {paths.config_file()}", "default": default}.get(origin, f"from {origin}"), settings)


@app.command("set", context_settings={"ignore_unknown_options": True})  # a value may be -1
@with_options(read=forgiving)
def set_value(
    setting: SETTING,
    value: Annotated[str, typer.Argument(help="The value; lists and objects as JSON.")],
    settings: Settings,
) -> None:
    """Write a setting to the file."""
    import tomlkit

    options, name = _find(setting)
    kept = checked(options, {name: _parsed(value)})
    from_file(options)  # refuses a value where the table should be
    document = _document()
    place: Any = document.setdefault(options.table, tomlkit.table()) if options.table else document
    place[name] = kept.model_dump(mode="json")[name]
    _write(document)
    note(f"{setting} = {shown(getattr(kept, name))}", settings)


@app.command("unset")
@with_options(read=forgiving)
def unset(
    setting: Annotated[
        str,
        typer.Argument(help="A name as `filbert config` shows it, or any other of the file.", autocompletion=set_names),
    ],
    settings: Settings,
) -> None:
    """Take a setting out of the file, so that the default counts again."""
    document = _document()
    table, _, name = setting.rpartition(".")
    place, file = document.get(table) if table else document, paths.config_file()
    if setting in document and table:  # "load.context" = 1
        place, name = document, setting
    if setting in {options.table for options in tables()} and isinstance(document.get(setting), dict):
        raise BadSetting(
            f"{setting} is a table, not a setting.", do=f"Name one of its settings: {', '.join(document[setting])}."
        )
    if isinstance(place, dict) and name in place:
        del place[name]
        _write(document)
        note(f"{setting} is no longer in {file}.", settings)
        return
    options, _ = _find(setting, "and none in the file")
    from_file(options)  # refuses a value where the table should be
    note(f"{setting} is not in {file}.", settings)


@app.command("path")
@with_options(read=forgiving)
def path() -> None:
    """Where the file is."""
    say(str(paths.config_file()))


def _parsed(value: str) -> Any:
    if value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"{value[:80]} is not JSON.", why=f"{exc}.", do="""Write lists as '["one", "two"]'.""") from exc


def _find(setting: str, nor: str = "") -> tuple[type[Options], str]:
    if found := _fields().get(setting):
        return found
    raise BadSetting(
        f"There is no setting {', '.join(filter(None, (setting, nor)))}.",
        do=_nearest_setting(setting) or "`filbert config` lists them all.",
    )


def _nearest_setting(text: str) -> str:
    """A question, whether or not the table was typed; "" where nothing comes near."""
    whole = {word: known for known in _fields() for word in (known.rpartition(".")[2], known)}
    near = nearest(text, whole)
    return f"Did you mean {whole[near[0]]}?" if near else ""


def _document() -> tomlkit.TOMLDocument:
    """The file with its comments. Raises BadSetting for a broken one, before anything of it is lost."""
    import tomlkit

    read_file()
    file = paths.config_file()
    try:
        return tomlkit.parse(file.read_text("utf-8")) if file.exists() else tomlkit.document()
    except (ValueError, RecursionError) as exc:  # it reads a little less than what read_file does
        raise BadSetting(f"{file} cannot be changed.", why=f"{exc}.", do="Mend it in an editor.") from exc


def _write(document: tomlkit.TOMLDocument) -> None:
    from filbert.core.files import write_whole

    try:
        text = document.as_string().encode()
    except UnicodeEncodeError as exc:
        raise BadInput("The value is not UTF-8 text.", do="Type it again, or convert it with iconv.") from exc
    with write_whole(paths.config_file().resolve()) as file:  # a link stays one
        file.write(text)


def shown(value: Any) -> str:
    if isinstance(value, tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=_chosen) if value else ""
    return "" if value is None else str(value)


def _chosen(table: BaseModel) -> dict[str, Any]:
    return table.model_dump(mode="json", exclude_unset=True)
