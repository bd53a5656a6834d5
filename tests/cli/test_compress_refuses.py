"""What `filbert compress` and its like refuse before they write, and what they leave as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from terminal import Run

import make_tiny
from filbert.models.gguf import read_header
from shapes import some_imatrix

Q4 = ("--to", "Q4_0", "--no-measure", "--force")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    for folder in (here, here / "folder", here / "foreign"):
        folder.mkdir()
    monkeypatch.chdir(here)
    (here / "foreign/README.md").write_text("My own words.")
    (here / "deep.toml").write_text("a = " + "[" * 100_000)
    (here / "link.gguf").symlink_to("tiny.gguf")
    return make_tiny.dense(here / "tiny.gguf", metadata={"general.license": "mit\nmade from  elsewhere\u202e"})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([*Q4, "-o", "tiny.gguf"], "tiny.gguf is what it would be made of"),
        ([*Q4, "-o", "link.gguf"], "link.gguf is what it would be made of"),
        ([*Q4, "-o", "folder"], "folder is there already, and no plain file"),
        ([*Q4, "-o", "pipe"], "pipe is there already, and no plain file"),
        ([*Q4, "-o", "small.md"], "what its model card would be called"),
        ([*Q4, "-o", f"{'x' * 250}.gguf"], "too long for the name of a file"),
        (["--batch", "Q4_0, Q8_0", "--no-measure", "-o", "tiny.gguf"], "tiny.gguf is no folder"),
        (["--batch", "Q4_0", "--no-measure", "-o", "foreign"], "README.md is there already"),
        (["--recipe", "deep.toml"], "nests without end"),
        ([*Q4, "--tensor-type", "nosuch=Q8_0"], "nosuch names no tensor of"),
        ([*Q4, "--embedding-type", "F33"], "no type a tensor can get. Did you mean"),
        ([*Q4, "--plot", "curve.svg"], "--plot draws a curve"),
        (["--curve", "--plot", "curve.txt"], "says no format of a picture"),
        ([*Q4, "--limit", "3"], "are of --tasks"),
        ([*Q4, "--tasks", "piqa", "--json"], "--tasks asks one file"),
    ],
)
def test_it_is_told_before_anything_is_written(words: list[str], why: str, tiny: Path, filbert: Run) -> None:
    os.mkfifo("pipe")
    before = {file: file.stat().st_ino for file in Path().rglob("*")}
    content = tiny.read_bytes()
    done = filbert("compress", str(tiny), *words)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert {file: file.stat().st_ino for file in Path().rglob("*")} == before
    assert tiny.read_bytes() == content


def test_a_card_that_is_there_is_not_written_over_unasked(tiny: Path, filbert: Run) -> None:
    card = Path("small.md")
    card.write_text("My own words.")
    done = filbert("compress", str(tiny), "--to", "Q4_0", "--no-measure", "-o", "small.gguf")
    assert (done.returncode, "small.md is there already" in done.stderr) == (2, True)
    assert card.read_text() == "My own words."
    assert filbert("compress", str(tiny), *Q4, "-o", "small.gguf").returncode == 0
    assert "What it lost" in card.read_text()


def test_a_model_with_adapters_is_not_a_file(tiny: Path, filbert: Run) -> None:
    adapter = make_tiny.adapter(Path("lora.gguf").absolute())
    assert "has adapters" in filbert("compress", f"{tiny}+{adapter}", *Q4, "-o", "out.gguf").stderr


def test_an_importance_matrix_is_not_written_over_its_model(tiny: Path, filbert: Run) -> None:
    content = tiny.read_bytes()
    assert "is what it would be made of" in filbert("imatrix", str(tiny), "--force", "-o", str(tiny)).stderr
    assert tiny.read_bytes() == content


@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_an_importance_matrix_of_no_sums_is_to_blame(value: float, tiny: Path, filbert: Run) -> None:
    lengths = {tensor.name: tensor.shape[0] for tensor in read_header(tiny).tensors if len(tensor.shape) > 1}
    matrix = Path("matrix.gguf")
    some_imatrix(matrix, lengths)
    place = next(tensor for tensor in read_header(matrix).tensors if tensor.name == "blk.0.attn_v.weight.in_sum2")
    with matrix.open("r+b") as file:
        file.seek(place.offset)
        file.write(np.float32(value).tobytes())
    done = filbert("compress", str(tiny), "--to", "Q4_0", "--imatrix", str(matrix), "--dry-run")
    assert (done.returncode, "attn_v.weight.in_sum2 holds what is no sum of squares" in done.stderr) == (2, True)


def test_a_gain_that_is_no_number_is_refused_as_weights_are(tiny: Path, filbert: Run) -> None:
    place = next(tensor for tensor in read_header(tiny).tensors if tensor.name == "blk.1.ffn_norm.weight")
    with tiny.open("r+b") as file:
        file.seek(place.offset)
        file.write(np.float32(np.nan).tobytes())
    done = filbert("compress", str(tiny), "--to", "Q4_0", "--no-measure", "-o", "out.gguf")
    assert (done.returncode, "blk.1.ffn_norm.weight holds weights that are no numbers" in done.stderr) == (2, True)
    assert not list(Path().glob("*out*"))


def test_what_a_file_says_stays_on_its_line(tiny: Path, filbert: Run) -> None:
    lines = filbert("show", str(tiny)).stdout.splitlines()
    assert sum("mit made from  elsewhere" in line for line in lines) == 1
    assert not any(line.startswith("made from") or "\u202e" in line for line in lines)


def test_a_projector_is_of_a_release(tmp_path: Path, filbert: Run) -> None:
    model, projector = make_tiny.vision(tmp_path / "eyes.gguf", tmp_path / "mmproj-eyes.gguf")
    folder = tmp_path / "release"
    assert filbert("compress", str(model), "--batch", "Q8_0", "--no-measure", "-o", str(folder)).returncode == 0
    (only,) = json.loads((folder / "index.json").read_text())
    assert [file["name"] for file in only["files"]] == ["eyes-Q8_0.gguf", "mmproj-eyes-Q8_0.gguf"]
    assert only["files"][1]["bytes"] == projector.stat().st_size
    assert "mmproj-eyes-Q8_0.gguf" in (folder / "SHA256SUMS").read_text()
    told = filbert("publish", str(folder), "hf:nuts/hazel", "--dry-run").stdout
    assert "mmproj-eyes-Q8_0.gguf" in told
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(model)
    assert "README.md is a link" in filbert("publish", str(folder), "hf:nuts/hazel", "--dry-run").stderr
    (folder / "index.json").write_text("[]")
    assert "is no release" in filbert("publish", str(folder), "hf:nuts/hazel", "--dry-run").stderr
