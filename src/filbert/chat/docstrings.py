"""What a function's docstring says of it and of its parameters, in the styles of Google, NumPy and Sphinx."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise

GOOGLE = re.compile(r"(?:Args|Arguments|Parameters):\s*$")
GOOGLE_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\(.*?\))?\s*:\s*(?P<text>.*)")
NUMPY_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?P<text>)(?::.*)?$")
SPHINX_ENTRY = re.compile(r":param\s+(?:[^:]*\s)?\*{0,2}(?P<name>\w+):\s*(?P<text>.*)")
FIELD = re.compile(r":\w[^:]*:")  # Sphinx's own, such as :returns:
SECTION = re.compile(r"[A-Z]\w*:\s*$")


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """The first paragraph, and what is said of each parameter."""
    lines = inspect.cleandoc(docstring).splitlines()
    parameters = _google(lines) or _numpy(lines) or _entries(lines, SPHINX_ENTRY)
    return _first_paragraph(lines), parameters


def _first_paragraph(lines: Sequence[str]) -> str:
    said: list[str] = []
    for line in lines:
        if not line.strip() or SECTION.match(line) or FIELD.match(line):
            break
        said.append(line.strip())
    return " ".join(said)


def _google(lines: Sequence[str]) -> dict[str, str]:
    start = next((at for at, line in enumerate(lines) if GOOGLE.match(line)), len(lines))
    section: list[str] = []
    for line in lines[start + 1 :]:
        if line and not line[0].isspace():
            break
        section.append(line)
    return _entries(textwrap.dedent("\n".join(section)).splitlines(), GOOGLE_ENTRY)


def _numpy(lines: Sequence[str]) -> dict[str, str]:
    rules = [at for at, line in enumerate(lines) if re.match(r"-{3,}\s*$", line)] + [len(lines) + 1]
    for rule, next_rule in pairwise(rules):
        if lines[rule - 1].strip() == "Parameters":
            return _entries(lines[rule + 1 : next_rule - 1], NUMPY_ENTRY)
    return {}


def _entries(lines: Iterable[str], head: re.Pattern[str]) -> dict[str, str]:
    """Names and texts; a line that is indented goes on with the text before it."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if begun := head.match(line):
            name = begun["name"]
            found[name] = [begun["text"]]
        elif line[:1].isspace() and name:
            found[name].append(line.strip())
        else:
            name = ""
    return {name: " ".join(filter(None, texts)) for name, texts in found.items()}
