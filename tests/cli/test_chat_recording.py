"""A conversation with all that one can do, on real models, as a person sees it. `make recording` keeps it as docs/chat.cast."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from emulator import Screen
from terminal import Run

DATA = Path(__file__).parent.parent / "data"
TOOLS = '''
def weather(city: str) -> str:
    """The weather in a city today."""
    return f"{city}: 18 degrees, light rain"
'''


@pytest.fixture
def names(filbert: Run, stocked: Path, tools_model_file: Path) -> None:
    """Short names for a model whose template knows tools, and for one that thinks."""
    for values in (
        ("coder", f"of={tools_model_file}"),
        ("thinker", "of=smollm2:135m", f"template=@{DATA}/thinking.jinja"),
    ):
        done = filbert("set", *values)
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("names")
@pytest.mark.slow
def test_chat_branch_tool_model_and_thought_are_seen_and_recorded(
    screen: Callable[..., Screen], tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    options = ("--context", "2048", "--seed", "1", "--temperature", "0", "--max-tokens", "90")
    talk = screen("chat", "-m", "coder", *options, "--tools", str(tmp_path / "tools.py"), columns=90, rows=28)
    talk.wait_for("Kept on this machine; nothing leaves it.")
    talk.ask("What is the weather in Paris?", "→ weather(city='Paris')", "← Paris: 18 degrees, light rain")
    talk.ask("/model smollm2:135m", "smollm2:135m-q4_1: context 2048 tokens")
    talk.ask("What is the capital of France? Answer in one sentence.", "Paris.")
    talk.ask("/edit What is the capital of Italy? Answer in one sentence.", "Rome")
    talk.ask("/branch", "What is the capital of France?", "* /branch", "What is the capital of Italy?")
    talk.ask("/model thinker", "thinker (smollm2:135m-q4_1): context 2048 tokens")
    talk.ask("/reset", "A new chat.")
    talk.ask("Name a red flower.", "(thought for", "A rose")
    talk.ask("/stats", "of them thought", "% full")
    talk.type("\x04")
    assert talk.wait() == 0
    assert talk.emulator.lines()[-1].startswith("`filbert chat --resume ")
    recording = Path(os.environ.get("FILBERT_RECORDING", tmp_path / "chat.cast"))
    talk.write_cast(recording, "filbert chat: a tool, another model, a branch, a thought")
    head, *events = map(json.loads, recording.read_text("utf-8").splitlines())
    assert (head["version"], head["width"]) == (2, 90)
    assert "weather" in "".join(text for _, _, text in events)


def test_the_kept_recording_shows_what_the_page_says() -> None:
    head, *events = map(json.loads, (DATA.parent.parent / "docs/chat.cast").read_text("utf-8").splitlines())
    shown = "".join(text for _, _, text in events)
    assert head["version"] == 2
    for each in ("→ weather", "/model", "/branch", "(thought for", "--resume"):
        assert each in shown
