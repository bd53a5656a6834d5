"""Python functions as tools: the schema from the signature, arguments checked, results as text."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_json

from filbert.chat.docstrings import described
from filbert.core.errors import BadInput
from filbert.engine.schema import mapped, without_unheld_patterns
from filbert.engine.tools import Tool

MAX_ITEMS = 1_000  # of a result that gives them one by one, and may never end
BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A tool and the function behind it. arguments: what checks them, with a field for each parameter in order."""

    tool: Tool
    function: Function
    arguments: type[BaseModel]

    def call(self, arguments: str) -> str:
        """Call the function with arguments in JSON; what it gives, as text. Raises ValueError for wrong arguments, and
        whatever the function raises."""
        values = self._checked(arguments)
        by_position = [values[name] for name, kind in self._parameters() if kind in BY_POSITION]
        by_name = {name: values[name] for name, kind in self._parameters() if kind not in BY_POSITION}
        result = self.function(*by_position, **by_name)
        return as_text(asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result)

    def _parameters(self) -> Iterator[tuple[str, Any]]:
        return ((name, each.kind) for name, each in inspect.signature(self.function).parameters.items())

    def _checked(self, arguments: str) -> dict[str, Any]:
        try:
            checked = self.arguments.model_validate_json(arguments or "{}")
        except ValidationError as exc:
            problems = (f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in exc.errors())
            raise ValueError("; ".join(problems)) from exc
        return {field.alias or name: getattr(checked, name) for name, field in self.arguments.model_fields.items()}


async def _awaited(result: Any) -> Any:
    return await result


def tool_of(function: Function) -> FunctionTool:
    """The schema comes from type hints, defaults and the docstring. Raises BadInput for a function that no model can
    call."""
    whole = getattr(function, "func", function)  # of functools.partial
    name = getattr(whole, "__name__", type(whole).__name__)
    description, texts = described(inspect.getdoc(_inner(function)) or "")
    try:
        arguments = _arguments(function, texts)
        schema = arguments.model_json_schema()
    except (PydanticUserError, NameError, TypeError, ValueError) as exc:
        raise BadInput(
            f"The function {name} cannot be a tool.",
            why=f"{str(exc).splitlines()[0].rstrip('.')}.",
            do="Give its parameters types that JSON can hold.",
        ) from exc
    return FunctionTool(Tool(name, description, _parameters(schema)), function, arguments)


def _arguments(function: Function, texts: Mapping[str, str]) -> type[BaseModel]:
    """A model whose fields are the parameters; their names are aliases, for any name may be a parameter's."""
    hints = get_type_hints(_inner(function), include_extras=True)
    fields: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"its parameter {name} takes any number of arguments")
        default = ... if parameter.default is parameter.empty else parameter.default
        told = _told(hints.get(name, Any)) or texts.get(name) or None
        fields[f"field_{number}"] = (hints.get(name, Any), Field(default, alias=name, description=told))
    return create_model("Arguments", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)


def _inner(function: Function) -> Any:
    """What carries the type hints: of a partial its function, of an object that can be called its method."""
    inner = inspect.unwrap(getattr(function, "func", function))
    return inner if inspect.isroutine(inner) or isinstance(inner, type) else type(inner).__call__


def _told(hint: Any) -> str:
    """A description among a hint's annotations: Annotated[str, "a town"]."""
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    said = (note.description if isinstance(note, FieldInfo) else note for note in notes)
    return next((text for text in said if isinstance(text, str)), "")


def _parameters(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without titles, which repeat the names and cost tokens, and without what only our own check of them needs."""
    shown = {name: value for name, value in schema.items() if name != "additionalProperties"}
    return mapped(without_unheld_patterns(shown), _without_title)


def _without_title(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in schema.items() if name != "title"}


def as_text(result: Any) -> str:
    """A result as a model reads it: text as it is, the rest as JSON."""
    if result is None:
        return "Done."
    if isinstance(result, str):
        return result
    if isinstance(result, bytes | bytearray | memoryview):
        return _bytes_as_text(bytes(result))
    if isinstance(result, Iterator):
        result = list(islice(result, MAX_ITEMS))
    try:
        return to_json(result, bytes_mode="base64", inf_nan_mode="strings", fallback=str).decode()
    except (PydanticSerializationError, ValueError):  # it holds itself
        return str(result)


def _bytes_as_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes that are no text)"


def tools_of(given: Iterable[Tool | Function]) -> tuple[list[Tool], dict[str, FunctionTool]]:
    """The tools, and by name those that have a function. Raises BadInput."""
    tools: list[Tool] = []
    functions: dict[str, FunctionTool] = {}
    for item in given:
        if isinstance(item, Tool):
            tools.append(item)
        elif callable(item):
            made = tool_of(item)
            tools.append(made.tool)
            functions[made.tool.name] = made
        else:
            raise BadInput(f"A tool is a function or a Tool, not {type(item).__name__}.", do="Give one of these.")
    return tools, functions


def functions_of(path: Path) -> list[Function]:
    """The public functions with a docstring of a person's own Python file, which is run for it. Raises BadInput."""
    module = _run(path)
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    found = [getattr(module, name, None) for name in names]
    own = (each for each in found if inspect.isfunction(each) and each.__module__ == module.__name__)
    documented: list[Function] = [each for each in own if each.__doc__]
    if not documented:
        raise BadInput(f"{path} has no tools.", do="A tool is a function whose docstring says what it does.")
    return documented


def _run(path: Path) -> Any:
    name = f"filbert_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path) if path.suffix == ".py" and path.is_file() else None
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is no Python file.", do="Name one that ends in .py.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    beside = str(path.resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # last: what it imports may lie beside it, and hides nothing that is installed
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        del sys.modules[name]
        raise BadInput(
            f"{path} cannot be run.", why=f"{type(exc).__name__}: {exc}.", do="Mend it; `python` says where."
        ) from exc
    return module
