"""What a converter sees of a model: links to what was checked, and nothing that names code."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from filbert.compress.staging import staged
from filbert.core.errors import BadModelFile

HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def weights(path: Path, size: int = 8) -> None:
    told = json.dumps(HEADER).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + bytes(size))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "A Model"
    path.mkdir()
    weights(path / "model.safetensors")
    code = {"AutoConfig": "evil.Config", "AutoTokenizer": ["owner/repo--evil.Tokenizer", None]}
    config = {"architectures": ["X"], "auto_map": code, "vision_config": [{"auto_map": code, "width": 3}]}
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer_config.json").write_text(json.dumps({"auto_map": code, "bos_token": "<s>"}))
    (path / "vocab.json").write_text('{"auto_map": 3, "trust_remote_code": 4}')
    (path / "evil.py").write_text("raise SystemExit")
    (path / "pytorch_model.bin").write_text("pickled")
    return path


def test_it_is_called_as_the_folder_and_holds_links(folder: Path, tmp_path: Path) -> None:
    stage = staged(folder, tmp_path / "stage")
    assert stage.name == "A Model"
    assert (stage / "model.safetensors").samefile(folder / "model.safetensors")
    names = {path.name for path in stage.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer_config.json", "vocab.json"}


def test_json_names_no_code_and_a_vocabulary_keeps_its_words(folder: Path, tmp_path: Path) -> None:
    stage = staged(folder, tmp_path / "stage")
    assert json.loads((stage / "config.json").read_text()) == {"architectures": ["X"], "vision_config": [{"width": 3}]}
    assert json.loads((stage / "tokenizer_config.json").read_text()) == {"bos_token": "<s>"}
    assert json.loads((stage / "vocab.json").read_text()) == {"auto_map": 3, "trust_remote_code": 4}


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors"])
def test_weights_that_lie_are_refused(name: str, folder: Path, tmp_path: Path) -> None:
    weights(folder / name, size=7)
    with pytest.raises(BadModelFile, match=rf"{name} is damaged. Its tensors take 8 bytes and the file has 7"):
        staged(folder, tmp_path / "stage")


def test_json_that_nests_for_ever_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(BadModelFile, match=r"tokenizer.json is damaged"):
        staged(folder, tmp_path / "stage")
