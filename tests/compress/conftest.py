"""The starter at F16, and an importance matrix of it on a short text."""

from __future__ import annotations

from pathlib import Path

import pytest

from filbert.compress.imatrix import ImportanceMatrix, Text, imatrix_job
from filbert.compress.plan import Source
from filbert.core.jobs import finish
from filbert.core.settings import checked
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.models.gguf import check_split
from filbert.models.store import in_place
from requantise import uncompressed


@pytest.fixture(scope="session")
def full(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uncompressed(starter, tmp_path_factory.mktemp("full") / "full.gguf")


@pytest.fixture(scope="session")
def source(full: Path) -> Source:
    stored = in_place(full)
    return Source(stored, check_split(stored.parts))


@pytest.fixture(scope="session")
def words() -> str:
    return (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")


@pytest.fixture(scope="session")
def matrix(full: Path, words: str, tmp_path_factory: pytest.TempPathFactory) -> ImportanceMatrix:
    plan = LoadPlan(in_place(full), checked(LoadOptions, {"threads": 2}))
    target = tmp_path_factory.mktemp("imatrix") / "full.imatrix.gguf"
    return finish(imatrix_job(plan, [Text("war-and-peace.txt", words[:6000])], 256, target))
