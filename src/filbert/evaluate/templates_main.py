"""The child that renders templates: they come from people's files, and one may never end or fill the memory.

It hears {"templates": {role: template}, "reads": {role: text, number, answer or list}, "memory_bytes": n,
"caller": pid}, then {"documents": […]} until there are no more, and answers each {"rendered": [{role: value}, or a
sentence where there is none]}. It says {"refused": sentence} where the templates themselves cannot be used.
"""

import ast
import os
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, Template, TemplateSyntaxError
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from filbert.engine.lifeline import bound_memory, heard, open_lifeline

FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, re.error, RecursionError)
MOST_LETTERS = 200  # of a fault, which may repeat the document


def main() -> None:
    say = open_lifeline()
    said = heard()
    told = next(said)
    if os.name == "posix" and os.getppid() != told["caller"]:
        return  # it died before the lifeline was open
    bound_memory(told["memory_bytes"])
    try:
        templates = _compiled(told["templates"])
        for batch in said:
            say({"rendered": [_rendered(templates, told["reads"], document) for document in batch["documents"]]})
    except MemoryError:
        say({"refused": f"A template took over {told['memory_bytes'] / 1e9:.0f} GB of memory."})
    except (TemplateSyntaxError, RecursionError) as exc:
        say({"refused": f"A template cannot be read: {exc}."})
    except SecurityError as exc:
        say({"refused": f"A template does what none may: {exc}."})


def _compiled(templates: Mapping[str, str]) -> dict[str, Template]:
    environment = ImmutableSandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["regex_replace"] = regex_replace
    return {role: environment.from_string(template) for role, template in templates.items()}


def regex_replace(text: str, pattern: str, repl: str, count: int = 0) -> str:
    return re.sub(pattern, repl, text, count=count)


def _rendered(templates: Mapping[str, Template], reads: Mapping[str, str], document: Mapping[str, Any]) -> Any:
    values = {}
    for role, template in templates.items():
        try:
            values[role] = _read(template.render(document), reads[role])
        except (SecurityError, TemplateSyntaxError):
            raise
        except (*FAULTS, SyntaxError) as exc:
            return f"{role}: {str(exc)[:MOST_LETTERS]}."
    return values


def _read(text: str, as_what: str) -> Any:
    """As lm-eval reads what a template gives: a number where there are choices, a list where it looks like one."""
    if as_what in ("number", "answer") and text.isdigit():
        return ast.literal_eval(text)
    if as_what == "answer" and len(text) >= 2 and text[0] == "[" and text[-1] == "]":
        try:
            return _list(text)
        except (SyntaxError, ValueError):
            return text
    return _list(text) if as_what == "list" else text


def _list(text: str) -> list[Any]:
    value = ast.literal_eval(text)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str | int | float | None) for each in value):
        raise ValueError("it makes no list of texts")
    return list(value)


main()
