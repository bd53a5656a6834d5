"""Which files of a model's folder matter, and folders that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from filbert.core.errors import BadInput, BadModelFile
from filbert.models.weights_folder import names_in, read_json, taken, weights_in


def folder(path: Path, *names: str, index: Any = None) -> Path:
    for name in ("config.json", *names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")
    if index is not None:
        text = index if isinstance(index, str) else json.dumps(index)
        (path / "model.safetensors.index.json").write_text(text)
    return path


def test_code_and_what_is_pickled_is_not_taken(tmp_path: Path) -> None:
    kept = ("model.safetensors", "tokenizer.model", "1_Pooling/config.json", "README.md", "LICENSE.txt", "vocab.txt")
    left = ("modeling_x.py", "pytorch_model.bin", "head.pt", "a/b/config.json", "onnx/config.json", ".git/config.json")
    found = taken(names_in(folder(tmp_path, *kept, *left)))
    assert found == sorted((*kept, "config.json"))


def test_the_index_names_the_parts(tmp_path: Path) -> None:
    folder(tmp_path, "model-b.safetensors", "model-a.safetensors", "model-x.safetensors", "other.safetensors")
    assert [file.name[6] for file in weights_in(tmp_path)] == ["a", "b", "x"]
    folder(tmp_path, index={"weight_map": {"x": "model-b.safetensors", "y": "model-a.safetensors"}})
    assert [file.name[6] for file in weights_in(tmp_path)] == ["a", "b"]


def test_an_adapter_has_its_own(tmp_path: Path) -> None:
    folder(tmp_path, "adapter_config.json", "adapter_model.safetensors", "model.safetensors")
    assert [file.name for file in weights_in(tmp_path, "adapter_model")] == ["adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("names", "index"),
    [
        (["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"], None),
        (["model-00001-of-00003.safetensors"], {"weight_map": {"x": "model-00002-of-00003.safetensors"}}),
    ],
)
def test_a_part_that_is_missing_is_named(names: list[str], index: Any, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match=r"is not whole. model-00002-of-00003.safetensors is not there\."):
        weights_in(folder(tmp_path, *names, index=index))


@pytest.mark.parametrize("named", ["../secret.safetensors", "/etc/passwd", "..\\x.safetensors", "x.bin"])
def test_an_index_that_leads_elsewhere_is_refused(named: Any, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="no file beside it"):
        weights_in(folder(tmp_path, index={"weight_map": {"x": named}}))


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"x": 3}}', "x", "[" * 100_000]
)
def test_an_index_that_is_none(index: str, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match=r"model.safetensors.index.json is damaged"):
        weights_in(folder(tmp_path, index=index))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"])
def test_pickled_weights_are_refused_and_what_to_do_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"{name} is pickled.*Take a revision with safetensors"):
        weights_in(folder(tmp_path, name))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no folder of a model. It has no config.json"):
        weights_in(tmp_path)
    with pytest.raises(BadInput, match=r"has no model\*.safetensors"):
        weights_in(folder(tmp_path))
    with pytest.raises(BadInput, match=r"no folder of an adapter"):
        weights_in(tmp_path, "adapter_model")


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"{", b""])
def test_json_that_is_none(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(BadModelFile, match=r"config.json is damaged. It is no JSON"):
        read_json(tmp_path / "config.json")
