"""One real `filbert serve`, out of its own environment, with two models that chat and one that embeds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import EMBEDDER, STARTER, TOOLS_MODEL

CHECKOUT = Path(__file__).parent.parent.parent
FILBERT = Path(os.environ.get("FILBERT_BIN", CHECKOUT / ".venv/bin")) / "filbert"


@pytest.fixture(scope="session")
def url(shelf: Path, tools_model_file: Path, embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, without /v1. It needs no key, as on everybody's machine."""
    assert (tools_model_file.stem, embedder.stem) == (TOOLS_MODEL, EMBEDDER)
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(shelf / "models", home / "models")
    models = [word for name in (STARTER, tools_model_file, embedder) for word in ("-m", str(name))]
    command = [str(FILBERT), "serve", "--port", "0", "--context", "4096", *models]
    environment = {**os.environ, "FILBERT_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield _address(server)
        finally:
            server.terminate()
            server.communicate(timeout=60)


def _address(server: subprocess.Popen[str]) -> str:
    heard = []
    assert server.stderr
    for line in server.stderr:
        heard.append(line)
        if match := re.search(r"(http://127\.0\.0\.1:\d+)/v1", line):
            return match[1]
    raise AssertionError(f"the server ended: {''.join(heard)}")


@pytest.fixture(params=[STARTER, TOOLS_MODEL], ids=["starter", "tools"])
def model(request: pytest.FixtureRequest) -> str:
    """Each that chats: one whose template knows no tools, one whose template does."""
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own keys and addresses reach the clients."""
    for name in list(os.environ):
        if re.match("(OPENAI|ANTHROPIC|OLLAMA|LLM)_", name):
            monkeypatch.delenv(name)
