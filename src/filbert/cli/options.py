"""Options classes to command-line flags: the one adapter between pydantic and typer."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from filbert.core import log
from filbert.core.errors import BadInput, Cancelled
from filbert.core.settings import Options, Settings, configured


def with_options(*classes: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each field of the classes, and call it with one record a class, named by its table
    (`load: LoadOptions`). Settings rides along on every command as `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        wanted: tuple[type[Options], ...] = (*classes, Settings)
        own = [
            p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in _records(wanted)
        ]
        flags = [(options, name, parameter) for options in wanted for name, parameter in flags_of(options)]

        @functools.wraps(command)
        def called(**given: Any) -> None:
            records: dict[str, Any] = {
                _record(options): configured(
                    options, {n: _value(options, n, given.pop(n)) for o, n, _ in flags if o is options}
                )
                for options in wanted
            }
            log.to_file(records["settings"].log_level)
            wishes = inspect.signature(command).parameters
            with stopped_in_our_words():
                command(**given, **{name: record for name, record in records.items() if name in wishes})

        parameters = [*own, *(parameter for _, _, parameter in flags)]
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        raise typer.Exit(141) from exc


def flags_of(options: type[Options]) -> Iterator[tuple[str, inspect.Parameter]]:
    for name, field in options.model_fields.items():
        if _extra(field, "flag") is False:
            continue
        option = typer.Option(
            *filter(None, (_extra(field, "short"), f"--{name.replace('_', '-')}")),
            help=field.description,
            show_default=False if field.default in (None, (), False, "") else str(field.default),
            metavar="FILE" if _is_file(field) else None,
        )
        annotation = Annotated[_flag_type(field), option]
        yield name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag_type(field: FieldInfo) -> Any:
    """int | None → int; tuple[str, ...] → list[str]; what is read from a file → Path; always optional."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if _is_file(field):
        kind = Path
    elif get_origin(kind) is tuple:
        kind = list[str]
    return kind | None


def _value(options: type[Options], name: str, given: Any) -> Any:
    if given is None or given == []:
        return None
    if not _is_file(options.model_fields[name]):
        return given
    try:
        text = Path(given).expanduser().read_text("utf-8")
        return json.loads(text) if name == "json_schema" else text
    except (OSError, ValueError) as exc:
        raise BadInput(f"--{name.replace('_', '-')} {given} cannot be read.", why=f"{exc}.", do="Name a file.") from exc


def _is_file(field: FieldInfo) -> bool:
    return _extra(field, "from_file") is True


def _extra(field: FieldInfo, key: str) -> Any:
    return field.json_schema_extra.get(key) if isinstance(field.json_schema_extra, dict) else None


def _record(options: type[Options]) -> str:
    return options.table or "settings"


def _records(classes: tuple[type[Options], ...]) -> set[str]:
    return {_record(options) for options in classes}
