"""Servers, options and model files that the tests of this room share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from model_servers import HubServer, IndexServer, Origin, serving

import make_tiny
from filbert.models.download_options import DownloadOptions


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    with serving(server):
        yield server


@pytest.fixture
def options() -> DownloadOptions:
    return DownloadOptions(pause_s=0.01, stall_s=1, retries=2)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for nothing; a token or mirror of the person who runs them stays out."""
    monkeypatch.setenv("FILBERT_DOWNLOAD_PAUSE_S", "0.01")
    monkeypatch.setenv("FILBERT_DOWNLOAD_STALL_S", "5")
    monkeypatch.setenv("FILBERT_DOWNLOAD_RETRIES", "2")
    for name in ("HF_TOKEN", "HF_ENDPOINT", "FILBERT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def blob() -> bytes:
    """Six MB that are nothing in particular: enough for four ranges."""
    return np.random.default_rng(4).bytes(6_000_000)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small whole model."""
    return make_tiny.dense(tmp_path_factory.mktemp("tiny") / "tiny.gguf").read_bytes()


@pytest.fixture(scope="session")
def bulky(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model of six MB, so that ranges and kills have something to bite."""
    parts = make_tiny.dense_parts()
    parts.tensors["output_norm_padding.weight"] = (
        np.random.default_rng(5).standard_normal((1536, 1024)).astype(np.float32)
    )
    path = tmp_path_factory.mktemp("bulky") / "bulky.gguf"
    make_tiny.write(path, parts)
    return path.read_bytes()


@pytest.fixture(scope="session")
def split_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """File name -> bytes of a model in parts."""
    paths = make_tiny.split(tmp_path_factory.mktemp("split") / "tiny.gguf")
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def vision_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("vision")
    model, projector = make_tiny.vision(folder / "eyes-Q8_0.gguf", folder / "mmproj-eyes-f16.gguf")
    return model.read_bytes(), projector.read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    server = HubServer()
    with serving(server):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield server


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IndexServer]:
    server = IndexServer()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    with serving(server):
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        yield server


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of somebody who has no such program yet."""
    folder = tmp_path / "person"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    for name in ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE", "LOCALAPPDATA",
                 "APPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    return folder
