from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from filbert.core import errors
from filbert.core.errors import FilbertError


def family(kind: type[FilbertError]) -> Iterator[type[FilbertError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def drawn() -> dict[str, str]:
    """Class -> parent as the picture in the docstring shows them."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+)", line):
            depth = len(found[1]) // 4
            if found[1] or found[2] == "FilbertError":
                above[depth:] = [found[2]]
                parents[found[2]] = above[depth - 1] if depth else ""
    return parents


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    ours = [kind for kind in family(FilbertError) if kind.__module__ == errors.__name__]
    built = {kind.__name__: kind.__base__.__name__ if kind is not FilbertError else "" for kind in ours}  # type: ignore[union-attr]
    assert drawn() == built


def test_each_error_has_a_code_of_its_own_and_a_status_for_each_door() -> None:
    kinds = list(family(FilbertError))
    own = [vars(kind)["code"] for kind in kinds if "code" in vars(kind)]  # a finer kind in a room may keep its parent's
    assert len(set(own)) == len(own) >= 20
    assert all(0 < kind.exit_status < 256 and 400 <= kind.http_status < 600 for kind in kinds)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "It failed."),
        ({"why": "No room."}, "It failed. No room."),
        ({"why": "No room.", "do": "Make some."}, "It failed. No room. Make some."),
    ],
)
def test_a_message_says_what_why_and_what_to_do(parts: dict[str, str], told: str) -> None:
    assert str(FilbertError("It failed.", **parts)) == told


WITHOUT_ADVICE = {
    "Cancelled",  # a person's own wish
    "BadInput('It is of another name.')",  # becomes the reason of a damaged record, whose error has one
    "BadModelFile(candidates[0].why)",  # a whole message of a refused file, with its own
}


def made_without_advice(path: Path) -> Iterator[str]:
    """Each error made in a file that does not say what to do."""
    names = {kind.__name__ for kind in family(FilbertError) if kind.__module__ == errors.__name__}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            told = {keyword.arg for keyword in node.keywords} & {"do", None}
            if not told and not {node.func.id, ast.unparse(node)} & WITHOUT_ADVICE:
                yield f"{path.name}:{node.lineno} {ast.unparse(node)}"


def test_every_error_of_ours_says_what_to_do() -> None:
    files = Path(str(errors.__file__)).parents[1].rglob("*.py")
    assert [made for path in files for made in made_without_advice(path)] == []
