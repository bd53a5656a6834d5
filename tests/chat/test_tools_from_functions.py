"""Schemas out of signatures, arguments checked, results as text."""

from __future__ import annotations

import functools
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import jsonschema
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from filbert.chat.tools import as_text, functions_of, tool_of
from filbert.core.errors import BadInput


@dataclass
class Place:
    town: str
    people: int = 0


class Colour(TypedDict):
    red: int


class Order(BaseModel):
    item: Literal["nut", "bread"]
    count: int = Field(gt=0)


def everything(
    a: int,
    b: float,
    c: str,
    d: bool,
    e: Literal["x", "y"],
    f: Optional[int],  # noqa: UP045 - people write it so
    g: list[str],
    h: dict[str, int],
    place: Place,
    colour: Colour,
    order: Order,
    noted: Annotated[str, "said in the hint"],
    fielded: Annotated[int, Field(ge=1, description="said in the field")],
    schema: int = 3,
    _under: str | None = None,
    *,
    model_config: int = 4,
) -> dict[str, Any]:
    """Take it all.

    Args:
        a: a whole number
        noted: never this
    """
    return locals()


GIVEN = {
    "a": 1,
    "b": 1.5,
    "c": "s",
    "d": True,
    "e": "x",
    "f": None,
    "g": ["q"],
    "h": {"k": 1},
    "place": {"town": "Ulm"},
    "colour": {"red": 1},
    "order": {"item": "nut", "count": 2},
    "noted": "n",
    "fielded": 1,
}


def test_the_schema_comes_from_the_signature() -> None:
    tool = tool_of(everything).tool
    shown = dict(tool.parameters)
    jsonschema.Draft202012Validator.check_schema(shown)
    jsonschema.validate(GIVEN, shown)
    assert (tool.name, tool.description) == ("everything", "Take it all.")
    assert shown["required"] == list(GIVEN)
    properties = shown["properties"]
    assert properties["a"] == {"type": "integer", "description": "a whole number"}
    assert properties["noted"]["description"] == "said in the hint"
    assert properties["fielded"] == {"type": "integer", "description": "said in the field", "minimum": 1}
    assert properties["e"] == {"enum": ["x", "y"], "type": "string"}
    assert (properties["schema"]["default"], properties["model_config"]["default"]) == (3, 4)
    assert "title" not in str(shown)


def test_arguments_become_what_the_hints_say() -> None:

    @functools.wraps(everything)
    def kinds(*args: Any, **more: Any) -> list[str]:
        return [type(value).__name__ for value in (*args, *more.values())]

    said = json.loads(tool_of(kinds).call(json.dumps(GIVEN)))
    assert said[8:11] == ["Place", "dict", "Order"]
    assert said[-3:] == ["int", "NoneType", "int"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{}", "people: Field required"),
        ('{"people": "many"}', "people: Input should be a valid integer"),
        ('{"people": 1, "town": 2}', "town: Extra inputs are not permitted"),
        ("[1]", "valid dictionary|object"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: str, says: str) -> None:
    def count(people: int) -> int:
        return people

    with pytest.raises(ValueError, match=says):
        tool_of(count).call(arguments)


class Clock:
    """A clock."""

    def __call__(self, zone: str = "UTC") -> str:
        """The time somewhere."""
        return zone

    def read(self, /, zone: str) -> str:
        """Read it."""
        return zone


def at(hour: int, minute: int) -> str:
    """A time."""
    return f"{hour}:{minute}"


async def later(x: int) -> int:
    """Later."""
    return x + 1


def test_methods_partials_objects_and_coroutines_are_functions_too() -> None:
    made = [tool_of(each) for each in (Clock(), Clock().read, functools.partial(at, minute=5), later)]
    assert [(tool.tool.name, tool.tool.description) for tool in made] == [
        ("Clock", "The time somewhere."),
        ("read", "Read it."),
        ("at", "A time."),
        ("later", "Later."),
    ]
    calls = ("{}", '{"zone": "CET"}', '{"hour": 7}', '{"x": 1}')
    assert [tool.call(call) for tool, call in zip(made, calls, strict=True)] == ["UTC", "CET", "7:5", "2"]


def many(*numbers: int) -> None:
    """Any number."""


def wire(line: socket.socket) -> None:
    """No JSON holds it."""


def lost(x: Nowhere) -> None:  # type: ignore[name-defined] # noqa: F821
    """A type that is nowhere."""


@pytest.mark.parametrize("function", [many, wire, lost])
def test_a_function_that_no_model_can_call_is_refused_in_a_sentence(function: Any) -> None:
    with pytest.raises(BadInput, match=f"{function.__name__} cannot be a tool"):
        tool_of(function)


def test_a_pattern_that_no_answer_can_be_held_to_is_left_to_the_function() -> None:
    def pay(amount: Decimal, when: datetime) -> str:
        return f"{amount} {when.year}"

    made = tool_of(pay)
    assert "pattern" not in str(made.tool.parameters)
    assert made.call('{"amount": "1.50", "when": "2026-01-01T00:00:00"}') == "1.50 2026"


def endless() -> Iterator[int]:
    while True:
        yield 1


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        (None, "Done."),
        (3, "3"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Place("Ulm", 2), '{"town":"Ulm","people":2}'),
        (Order(item="nut", count=1), '{"item":"nut","count":1}'),
        (b"gr\xc3\xbcn", "grün"),
        (b"\xff\xfe\x00", "(3 bytes that are no text)"),
        ({"x": b"\xff"}, '{"x":"_w=="}'),
        (float("nan"), '"NaN"'),
        ({Path("a")}, '["a"]'),
        (object, "<class 'object'>"),
        (LOOP, "[[...]]"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_whatever_a_function_gives_is_text_for_the_model(result: Any, text: str) -> None:
    assert as_text(result).strip('"') == text.strip('"')


def test_a_result_that_never_ends_is_cut() -> None:
    assert as_text(endless()).count("1") == 1000


TOOLS = '''
"""Tools of mine."""
from dataclasses import dataclass
from os.path import join


@dataclass
class Place:
    town: str


def weather(place: Place) -> str:
    """The weather of a place."""
    return _sky(place)


def undocumented(): ...


def _sky(place):
    """Mine."""
    return f"rain in {place.town}"
'''


def test_the_public_functions_of_a_file_are_its_tools(tmp_path: Path) -> None:
    file = tmp_path / "my tools.py"
    file.write_text(TOOLS)
    (weather,) = functions_of(file)
    assert tool_of(weather).call('{"place": {"town": "Ulm"}}') == "rain in Ulm"


def test_a_file_of_tools_finds_what_lies_beside_it_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nut_kinds.py").write_text("KINDS = ['hazel']")
    (tmp_path / "httpx.py").write_text("raise ImportError")
    file = tmp_path / "tools.py"
    file.write_text("import httpx\nfrom nut_kinds import KINDS\ndef nuts():\n    'Nuts.'\n    return KINDS")
    (nuts,) = functions_of(file)
    assert tool_of(nuts).call("{}") == '["hazel"]'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def broken(:", "cannot be run. SyntaxError"),
        ("1 / 0", "cannot be run. ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "cannot be run. SystemExit: 3"),
        ("x = 1", "has no tools"),
        ("def f(): ...", "has no tools"),
        ("\x00", "cannot be run"),
    ],
)
def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tools.py"
    file.write_text(text)
    with pytest.raises(BadInput, match=says):
        functions_of(file)


def test_what_is_no_python_file_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "tools.txt").write_text(TOOLS)
    for path in (tmp_path / "tools.txt", tmp_path / "none.py", tmp_path):
        with pytest.raises(BadInput, match="is no Python file"):
            functions_of(path)
