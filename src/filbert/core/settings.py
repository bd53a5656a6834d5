"""Settings: one TOML file, what a preset keeps with a model, FILBERT_… variables, flags. The later wins.

An option is declared once, as a field of an `Options` class in the room that uses it. The class names its table; the
field `context` of the table `load` is `[load] context = 8192` in the file and FILBERT_LOAD_CONTEXT in the environment.
Fields of the table "" stand at the top of the file and have no infix (FILBERT_OFFLINE).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from filbert.core import paths
from filbert.core.errors import BadSetting
from filbert.core.nearest import did_you_mean


class Options(BaseModel):
    """Base of every options class; a subclass sets `table`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    table: ClassVar[str] = ""
    _of_file: frozenset[str] = PrivateAttr(frozenset())  # fields that neither a flag nor a variable chose

    def over_preset(self, preset: str, kept: Mapping[str, Any]) -> Self:
        """These options with what the preset of that name keeps, where neither a flag nor a variable says otherwise.
        Raises BadSetting for what no such option can be."""
        chosen = self.model_fields_set - self._of_file
        coming = {name: value for name, value in kept.items() if name not in chosen}
        if not coming:
            return self
        before = {name: getattr(self, name) for name in self.model_fields_set}
        return checked(type(self), {**before, **coming}, dict.fromkeys(coming, f"{PRESET}{preset}"))

    def chosen(self) -> dict[str, Any]:
        """What a flag, a variable or the caller said, as JSON has it."""
        return self.model_dump(mode="json", include=self.model_fields_set - self._of_file)

    def choosing(self, **values: Any) -> Self:
        """These options with values that no preset changes."""
        chosen = self.model_copy(update=values)
        chosen._of_file = self._of_file - set(values)
        return chosen


class Settings(Options):
    """What belongs to no room alone."""

    offline: bool = Field(False, description="Forbid the network: nothing is contacted, what is installed still works.")
    quiet: bool = Field(
        False, description="Print results only: no progress, no notes.", json_schema_extra={"short": "-q"}
    )
    no_server: bool = Field(False, description="Load the model here, even if `filbert serve` runs and would share it.")
    debug: bool = Field(False, description="Show the traceback of an error.")
    model: str = Field(
        "smollm2:135m", description="The model used when none is named.", json_schema_extra={"flag": False}
    )
    history: bool = Field(
        True, description="Keep chats, so that they can be searched and resumed.", json_schema_extra={"flag": False}
    )
    database_url: str = Field(
        "",
        description="Where chats are kept, as SQLAlchemy spells it. Left out: chats.db in the data folder.",
        json_schema_extra={"flag": False},
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="How much the log file holds: DEBUG to ERROR."
    )


T = TypeVar("T", bound=Options)
PRESET = "the preset "


def key(options: type[Options], name: str) -> str:
    """What people call a field: load.context."""
    return f"{options.table}.{name}" if options.table else name


def variable(options: type[Options], name: str) -> str:
    """The environment variable of a field: FILBERT_LOAD_CONTEXT."""
    return "_".join(part.upper() for part in ("filbert", options.table, name) if part)


def read_file() -> dict[str, Any]:
    path = paths.config_file()
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise BadSetting(f"{path} cannot be read.", why="It is no plain file.", do="Take it away.")
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadSetting(f"{path} is not a TOML file.", why=f"{exc}.", do="Mend or delete it.") from exc
    except (ValueError, RecursionError) as exc:
        why = "A number in it is too long, or a list too deep."
        raise BadSetting(f"{path} cannot be read.", why=why, do="Mend or delete it.") from exc
    except OSError as exc:
        raise BadSetting(f"{path} cannot be read.", why=f"{exc.strerror}.", do="Mend or delete it.") from exc


def from_file(options: type[Options]) -> dict[str, Any]:
    whole = read_file()
    if not options.table:
        return {name: value for name, value in whole.items() if not isinstance(value, dict)}
    table = whole.get(options.table, {})
    if not isinstance(table, dict):
        raise BadSetting(
            f"{options.table} in {paths.config_file()} is no table.",
            do=f"`filbert config unset {options.table}` takes it out.",
        )
    return table


def from_environment(options: type[Options]) -> dict[str, Any]:
    """What variables say, mistyped ones of a table among it, which `checked` refuses; who else uses FILBERT_ without a
    table is not ours to know."""
    table = variable(options, "") + "_" if options.table else ""
    mistyped = [name.removeprefix(table).lower() for name in os.environ if table and name.startswith(table)]
    return {
        name: _value(os.environ[variable(options, name)])
        for name in dict.fromkeys((*options.model_fields, *mistyped))
        if os.environ.get(variable(options, name))
    }


def _value(text: str) -> Any:
    """Lists and tables are spelled as JSON in the environment; the rest is text, which pydantic reads."""
    if text.startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def configured(options: type[T], given: Mapping[str, Any] | None = None) -> T:
    """The defaults, then the file, then the environment, then what was `given` (None means not given)."""
    file, environment, told = from_file(options), from_environment(options), _told(given)
    origins = dict.fromkeys(file, str(paths.config_file())) | {name: variable(options, name) for name in environment}
    record = checked(options, {**file, **environment, **told}, origins | dict.fromkeys(told, ""))
    if of_file := file.keys() - environment.keys() - told.keys():
        record._of_file = frozenset(of_file)
    return record


def forgiving(options: type[T], given: Mapping[str, Any] | None = None) -> T:
    """As `configured`, but where the file or a variable has something wrong in it only what was `given` counts: for the
    commands that help to mend it."""
    try:
        return configured(options, given)
    except BadSetting:
        return checked(options, _told(given))


def _told(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (given or {}).items() if value is not None}


def checked(options: type[T], values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> T:
    """A record of the values. Raises BadSetting for the first that is wrong, naming where it comes from: `origins`
    holds the file or variable of each, "" for what was given just now."""
    try:
        return options.model_validate(dict(values))
    except ValidationError as exc:
        problem = exc.errors()[0]
        raise _refused(options, dict(problem), origins or {}) from exc


def _refused(options: type[Options], problem: Mapping[str, Any], origins: Mapping[str, str]) -> BadSetting:
    name = ".".join(str(part) for part in problem["loc"]) or options.__name__
    origin = origins.get(name.partition(".")[0], "")
    known = key(options, name)
    source = f"It comes from {origin}." if origin else ""
    mend = f"`filbert config unset {known}` takes it out of the file; " if origin == str(paths.config_file()) else ""
    if origin.startswith(PRESET):
        mend = f"`filbert set {origin.removeprefix(PRESET)} {name}=` takes it away; "
    if problem["type"] == "extra_forbidden":
        meant = did_you_mean(name, options.model_fields)
        do = " ".join(filter(None, (meant, f"{mend}`filbert config` lists them all.")))
        return BadSetting(f"There is no setting {known}.", why=source, do=do)
    return BadSetting(
        f"{known if origin else name} cannot be {_short(problem['input'])}.",
        why=" ".join(filter(None, (_why(options, problem), source))),
        do=f"{mend}`filbert config` says what each setting takes.",
    )


def _why(options: type[Options], problem: Mapping[str, Any]) -> str:
    """What the field takes and is by default, in our words; of an own check or a length, what that says."""
    field = options.model_fields.get(str(problem["loc"][0])) if len(problem["loc"]) == 1 else None
    if field is None or problem["type"].endswith(("value_error", "assertion_error", "too_long", "too_short")):
        return f"{problem['msg'].removeprefix('Value error, ')}."
    default = ("no", "yes")[field.default] if isinstance(field.default, bool) else field.default
    left_out = "" if default in (None, "", (), {}) else f"; left out, it is {default}"
    return f"It takes {takes(field)}{left_out}."


def takes(field: FieldInfo) -> str:
    """What a field can be: "1 to 16", "off | auto", "0 or more", "text"."""
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if get_origin(field.annotation) is tuple:
        return "a list of texts"
    if get_origin(field.annotation) is dict:
        return "a table each"
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


def _short(value: object) -> str:
    """A value as it was given, or its beginning: a schema may have megabytes."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no number of thousands of digits
        return "so long a value"
    return text if len(text) <= 80 else text[:80] + "…"
