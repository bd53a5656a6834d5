"""One real `filbert serve`, out of its own environment, with two models that chat and one that embeds."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import EMBEDDER, STARTER, TOOLS_MODEL
from served import served


@pytest.fixture(scope="session")
def url(shelf: Path, tools_model_file: Path, embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, without /v1. It needs no key, as on everybody's machine."""
    assert (tools_model_file.stem, embedder.stem) == (TOOLS_MODEL, EMBEDDER)
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(shelf / "models", home / "models")
    models = [word for name in (STARTER, tools_model_file, embedder) for word in ("-m", str(name))]
    with served(home, *models) as url:
        yield url


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
