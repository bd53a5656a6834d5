"""The one adapter from options classes to flags."""

from __future__ import annotations

import ast
import inspect

from terminal import Run

from filbert.cli import flags_from_options
from filbert.cli.config import tables
from filbert.cli.flags_from_options import flags_of


def test_the_adapter_stays_small() -> None:
    """DESIGN: at most 80 lines, counted without blanks, imports, docstrings and comments."""
    tree = ast.parse(inspect.getsource(flags_from_options))
    code: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not is_text and not isinstance(node, ast.Import | ast.ImportFrom):
            first = node.body[0].lineno - 1 if isinstance(getattr(node, "body", None), list) else node.end_lineno
            code |= set(range(node.lineno, (first or node.lineno) + 1))
    assert len(code) <= 80


def test_every_field_is_a_flag_with_its_help_and_default() -> None:
    for table in tables():
        for parameter in flags_of(table):
            field = table.model_fields[parameter.name]
            (option,) = parameter.annotation.__metadata__
            assert option.help.startswith(field.description)
            assert field.default in (None, (), {}, False, "") or option.help.endswith(f"[{field.default}]")


def test_a_command_has_no_flag_that_means_nothing_to_it(filbert: Run) -> None:
    assert "--parallel" not in filbert("chat", "--help").stdout
    told = filbert("score", "--help").stdout
    assert "--kv" not in told
    assert all(flag in told for flag in ("--threads", "--context", "--stall-s"))
    assert "--speculation" not in filbert("embed", "--help").stdout
