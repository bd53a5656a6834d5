"""Options classes to command-line flags: the one adapter between pydantic and typer."""

from __future__ import annotations

import functools
import inspect
import json
import os
import types
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from filbert.core import log
from filbert.core.errors import BadInput, Cancelled
from filbert.core.files import read_text_file
from filbert.core.settings import Options, Settings, configured, variable

Command = Callable[..., None]


def with_options(
    *classes: type[Options], without: Collection[str] = (), read: Callable[..., Options] = configured
) -> Callable[[Command], Command]:
    """Give a command a flag for each field of the classes, and call it with one record a class, named by its table
    (`load: LoadOptions`). Settings rides along on every command as `settings`. without: fields that mean nothing to
    this command; they get no flag. read: makes a record of what was told."""

    def decorate(command: Command) -> Command:
        every: tuple[type[Options], ...] = (*classes, Settings)
        wanted = {options.table or "settings": options for options in every}
        own = inspect.signature(command, eval_str=True).parameters
        flags = {name: [f for f in flags_of(options) if f.name not in without] for name, options in wanted.items()}

        @functools.wraps(command)
        def called(**given: Any) -> None:
            told = {record: {flag.name: given.pop(flag.name) for flag in flags[record]} for record in wanted}
            for name, value in told["settings"].items():
                if value is not None:  # rooms below read these by themselves, and children inherit them
                    os.environ[variable(Settings, name)] = str(value)
            records: dict[str, Any] = {
                record: read(options, _texts(options, told[record])) for record, options in wanted.items()
            }
            log.to_file(records["settings"].log_level)
            with stopped_in_our_words():
                command(**given, **{name: record for name, record in records.items() if name in own})

        parameters = [p for p in own.values() if p.name not in wanted] + [f for flag in flags.values() for f in flag]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


@contextmanager
def stopped_in_our_words() -> Iterator[None]:
    """Ctrl-C and a reader that went away are no faults, and typer would answer both with status 1."""
    try:
        yield
    except KeyboardInterrupt as exc:
        raise Cancelled("Stopped.") from exc
    except BrokenPipeError as exc:
        raise typer.Exit(141) from exc


def flags_of(options: type[Options]) -> Iterator[inspect.Parameter]:
    for name, field in options.model_fields.items():
        if _extra(field, "flag") is False:
            continue
        option = typer.Option(
            *filter(None, (_extra(field, "short"), flag(name), _extra(field, "also"))),
            help=_help(field),
            metavar="FILE" if _is_file(field) else "TEXT" if _is_list(field) else None,
        )
        parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        yield parameter.replace(annotation=Annotated[_flag_type(field), option])


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def fields_by_flag(*classes: type[Options]) -> dict[str, str]:
    """Every long spelling of a flag, with the field it is for."""
    fields = ((name, field) for options in classes for name, field in options.model_fields.items())
    return {spelling: name for name, field in fields for spelling in (flag(name), _extra(field, "also")) if spelling}


def _help(field: FieldInfo) -> str:
    again = " May be repeated." if _is_list(field) else ""
    default = "" if field.default in (None, (), {}, False, "") else f" [{field.default}]"
    return f"{field.description}{again}{default}"


def _flag_type(field: FieldInfo) -> Any:
    """int | None → int; tuple[str, ...] → list[str]; what is read from a file → Path; always optional."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if _is_file(field):
        kind = Path
    elif _is_list(field):
        kind = list[str]
    return kind | None


def _texts(options: type[Options], told: dict[str, Any]) -> dict[str, Any]:
    """What was told, with the text of files in place of their names."""
    fields = options.model_fields
    return {name: _value(name, fields[name], value) for name, value in told.items() if value not in (None, [])}


def _value(name: str, field: FieldInfo, given: Any) -> Any:
    if not _is_file(field):
        return given
    told = f"{flag(name)} {given}"
    text = read_text_file(Path(given), told)
    if not text.strip():
        raise BadInput(f"{told} is empty.", do="Name a file with something in it.")
    try:
        return text if field.annotation == str | None else json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"{told} is not JSON.", why=f"{exc}.", do="Mend the file.") from exc


def _is_file(field: FieldInfo) -> bool:
    return _extra(field, "from_file") is True


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (tuple, dict)


def _extra(field: FieldInfo, key: str) -> Any:
    return field.json_schema_extra.get(key) if isinstance(field.json_schema_extra, dict) else None
