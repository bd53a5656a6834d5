"""How calls of tools are told, and code is coloured."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import Run

from filbert.cli.chat_answer import ASIDE_CHARACTERS, called, came_back
from filbert.cli.highlight import KEYWORD, STRING, Highlighter
from filbert.core.messages import Message

TOOLS = '''
def weather(city: str) -> str:
    """The weather in a city today."""
    return f"{city}: 18 degrees, light rain"
'''


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"city": "Paris", "days": 2}', "→ weather(city='Paris', days=2)"),
        ("", "→ weather()"),
        ('{"city": "Par', "→ weather(…)"),
        ("[1]", "→ weather(…)"),
    ],
)
def test_a_call_is_told_as_python_spells_it(arguments: str, shown: str) -> None:
    assert called({"function": {"name": "weather", "arguments": arguments}}) == shown


def test_a_long_result_is_cut_to_a_line() -> None:
    assert came_back(Message("tool", "one\ntwo  three")) == "← one two three"
    assert len(came_back(Message("tool", "flood " * 10_000))) == ASIDE_CHARACTERS


@pytest.mark.slow
def test_in_a_pipe_the_answer_is_alone_on_standard_output(filbert: Run, stocked: Path, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    options = ("--seed", "1", "--temperature", "0", "--max-tokens", "40", "--no-history")
    done = filbert(
        "chat", *options, "--tools", str(tmp_path / "tools.py"), "--tool-choice", "weather", "Rain in Paris?"
    )
    assert done.returncode == 0
    assert "→ weather(city='Paris')\n← Paris: 18 degrees, light rain\n" in done.stderr
    assert "→" not in done.stdout and "←" not in done.stdout


def test_a_file_without_tools_is_an_error_of_input(filbert: Run, stocked: Path, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("x = 1\n")
    done = filbert("chat", "--tools", str(tmp_path / "tools.py"), "hi")
    assert (done.returncode, "has no tools" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("language", "lines", "coloured"),
    [
        ("python", ["def f():"], ("def", KEYWORD)),
        ("py", ['"""doc', 'def f"""'], ('def f"""', STRING)),
        ("sql", ["SELECT 1"], ("SELECT", KEYWORD)),
        ("js", ["const a = `x", "return`"], ("return`", STRING)),
        ("unknown", ["def f():"], ("def f():", "")),
    ],
)
def test_code_is_coloured_line_by_line(language: str, lines: list[str], coloured: tuple[str, str]) -> None:
    highlighter = Highlighter(language)
    spans = [highlighter.line(line) for line in lines]
    assert coloured in spans[-1]
    assert ["".join(text for text, _ in line) for line in spans] == lines
