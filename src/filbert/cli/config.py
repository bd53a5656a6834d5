"""`filbert config`: read and change settings."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from filbert.cli.console import note, say
from filbert.cli.flags import with_options
from filbert.core import paths
from filbert.core.errors import BadInput, BadSetting
from filbert.core.settings import Options, Settings, checked, configured, from_environment, from_file, variable

app = typer.Typer(
    help="Read and change settings. Defaults, then the file, then FILBERT_… variables, then flags: the later wins."
)


def tables() -> list[type[Options]]:
    """Every options class, in the order the docs show them."""
    from filbert.engine.options import LoadOptions
    from filbert.engine.sampling import Sampling
    from filbert.models.options import DownloadOptions
    from filbert.server.options import ServeOptions

    return [Settings, LoadOptions, Sampling, DownloadOptions, ServeOptions]


@app.callback(invoke_without_command=True)
@with_options()
def config(settings: Settings, context: typer.Context) -> None:
    """Every setting, its value, and where the value comes from."""
    if context.invoked_subcommand:
        return
    from filbert.report.table import table

    rows = [row for options in tables() for row in _rows(options)]
    say(table(("setting", "value", "from", "takes", "what it is"), rows))
    note(f"file: {paths.config_file()}", settings)


def _rows(options: type[Options]) -> list[tuple[str, ...]]:
    values, file, environment = configured(options), from_file(options), from_environment(options)

    def origin(name: str) -> str:
        return variable(options, name) if name in environment else "file" if name in file else "default"

    return [
        (_key(options, name), shown(getattr(values, name)), origin(name), takes(field), field.description or "")
        for name, field in options.model_fields.items()
    ]


@app.command("set")
@with_options()
def set_value(
    setting: Annotated[str, typer.Argument(help="A name as `filbert config` shows it, such as load.context.")],
    value: Annotated[str, typer.Argument(help="The value; lists and objects as JSON.")],
    settings: Settings,
) -> None:
    """Write a setting to the file."""
    options, name = _find(setting)
    kept = checked(options, {**from_file(options), name: _parsed(value)})
    _change(options, name, kept.model_dump(mode="json")[name])
    note(f"{setting} = {shown(getattr(kept, name))}", settings)


@app.command("unset")
@with_options()
def unset(
    setting: Annotated[str, typer.Argument(help="A name as `filbert config` shows it.")], settings: Settings
) -> None:
    """Take a setting out of the file, so that the default counts again."""
    options, name = _find(setting)
    _change(options, name, None)
    note(f"{setting} = {shown(getattr(configured(options), name))}", settings)


@app.command("path")
@with_options()
def path() -> None:
    """Where the file is."""
    say(str(paths.config_file()))


def _parsed(value: str) -> Any:
    if value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError as exc:
        raise BadInput(f"{value} is not JSON.", why=f"{exc}.", do="""Write lists as '["one", "two"]'.""") from exc


def _find(setting: str) -> tuple[type[Options], str]:
    for options in tables():
        for name in options.model_fields:
            if _key(options, name) == setting:
                return options, name
    raise BadSetting(f"There is no setting {setting}.", do="`filbert config` lists them all.")


def _change(options: type[Options], name: str, value: Any) -> None:
    """Rewrite the file with its comments kept."""
    import tomlkit

    from filbert.core.files import write_whole
    from filbert.core.settings import read_file

    read_file()  # says what is wrong with a broken file before anything is lost
    file = paths.config_file()
    document = tomlkit.parse(file.read_text("utf-8")) if file.exists() else tomlkit.document()
    place: Any = document
    if options.table:
        place = document.setdefault(options.table, tomlkit.table())
    if value is None:
        place.pop(name, None)
    else:
        place[name] = value
    with write_whole(file) as out:
        out.write(tomlkit.dumps(document).encode())


def _key(options: type[Options], name: str) -> str:
    return f"{options.table}.{name}" if options.table else name


def shown(value: Any) -> str:
    if isinstance(value, tuple | dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return "" if value is None else str(value)


def takes(field: FieldInfo) -> str:
    """What a field can be: "1 to 16", "off | auto", "0 or more", "text"."""
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if get_origin(field.annotation) is tuple:
        return "a list of texts"
    if get_origin(kinds[0]) is Literal or get_origin(field.annotation) is Literal:
        return " | ".join(get_args(kinds[0]) or map(str, kinds))
    word = {bool: "yes or no", int: "a whole number", float: "a number", str: "text"}.get(kinds[0], "JSON")
    return _bounds(field) or word


def _bounds(field: FieldInfo) -> str:
    limits = {
        kind: getattr(limit, kind)
        for limit in field.metadata
        for kind in ("ge", "gt", "le", "pattern")
        if hasattr(limit, kind)
    }
    low = str(limits["ge"]) if "ge" in limits else f"above {limits['gt']}" if "gt" in limits else ""
    if limits.get("pattern"):
        return str(limits["pattern"]).strip("^$()").replace("|", " | ")
    if "le" in limits:
        return f"{low}{' to' if 'ge' in limits else ', at most'} {limits['le']}"
    return f"{low} or more" if "ge" in limits else low
