"""`filbert compress` and `filbert imatrix` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal import Run

import make_tiny
from filbert.compress.making import making_of
from filbert.models.gguf import read_header
from filbert.models.store import in_place

NAME = "smollm2:135m"
pytestmark = pytest.mark.usefixtures("stocked")


def test_what_would_be_written_is_told(filbert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("compress", NAME, "--to", "q5_k_m", "--allow-requantize", "--dry-run")
    lines = filbert(*asked).stdout.splitlines()
    assert lines[0].split() == ["tensors", "types", "bytes"]
    assert any(line.startswith("ffn_up") and "30 × Q5_1 for Q5_K" in line for line in lines)
    assert "bits a weight" in lines[-2]
    assert "get the next that fits" in lines[-1]
    told = json.loads(filbert(*asked, "--json").stdout)
    assert told["recipe"] == "Q5_K_M"
    assert told["file"] == "smollm2-135m-q4_1-Q5_K_M.gguf"
    types = {tensor["name"]: tensor["type"] for tensor in told["tensors"]}
    assert types["token_embd.weight"] == "Q8_0"
    assert types["output_norm.weight"] == "F32"
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.slow
def test_a_recipe_is_run_and_the_file_answers(filbert: Run, tmp_path: Path) -> None:
    recipe, out = tmp_path / "mine.toml", tmp_path / "mine.gguf"
    recipe.write_text(
        'name = "mine"\ntype = "Q4_1"\nrules = [{ tensor = "ffn_down", layers = "first 1/8", type = "Q8_0" }]'
    )
    asked = ("compress", NAME, "--recipe", str(recipe), "--allow-requantize", "--no-measure", "-o", str(out))
    done = filbert(*asked, "--embedding-type", "Q5_1", "--tensor-type", r"blk\.7\.attn_q=Q8_0")
    assert "compress" in done.stderr or "quantise" in done.stderr
    types = {tensor.name: tensor.type for tensor in read_header(out).tensors}
    assert types["blk.0.ffn_down.weight"] == types["blk.7.attn_q.weight"] == "Q8_0"
    assert types["token_embd.weight"] == "Q5_1"
    assert types["blk.8.attn_q.weight"] == "Q4_1"
    assert "France" in filbert("chat", "--model", str(out), "--temperature", "0", "Capital of France?").stdout
    again = filbert(*asked)
    assert "is there already" in again.stderr


@pytest.mark.slow
def test_a_file_tells_what_it_lost(filbert: Run, tmp_path: Path) -> None:
    full, out = make_tiny.dense(tmp_path / "tiny.gguf"), tmp_path / "small.gguf"
    done = filbert("compress", str(full), "--to", "Q4_0", "-o", str(out))
    assert "rare scripts" in done.stdout
    assert "Measured beside its source" in done.stdout
    assert "filbert compress tiny.gguf --to Q4_0" in (tmp_path / "small.md").read_text()
    shown = filbert("show", str(out)).stdout
    assert "made from" in shown
    assert "filbert compress tiny.gguf --to Q4_0" in shown
    assert next(line for line in done.stdout.splitlines() if line.startswith("all ")) in shown
    told = json.loads(filbert("show", str(out), "--json").stdout)["making"]
    assert told["measured"]["kinds"]["all"]["kl"][0] > 0
    assert told["source"] == "tiny.gguf"
    told = json.loads(filbert("show", str(full), "--json").stdout)
    assert told["making"] is None


def test_several_files_go_into_a_folder(filbert: Run, tmp_path: Path) -> None:
    full, folder = make_tiny.dense(tmp_path / "tiny.gguf"), tmp_path / "release"
    asked = ("compress", str(full), "--batch", "Q8_0,Q4_0", "--no-measure", "-o", str(folder))
    assert filbert(*asked, "--dry-run").stdout.splitlines()[1].startswith("Q8_0")
    assert not folder.exists()
    assert "tiny-Q4_0.gguf" in filbert(*asked).stdout
    assert sorted(file.name for file in folder.iterdir()) == [
        *("README.md", "SHA256SUMS", "index.json"),
        *("tiny-Q4_0.gguf", "tiny-Q4_0.md", "tiny-Q8_0.gguf", "tiny-Q8_0.md"),
    ]


def test_a_file_may_be_split(filbert: Run, tmp_path: Path) -> None:
    full = make_tiny.dense(tmp_path / "tiny.gguf")
    asked = ("compress", str(full), "--to", "Q8_0", "--no-measure", "-o", str(tmp_path / "out.gguf"))
    assert filbert(*asked, "--split-size", "60kB").returncode == 0
    assert (tmp_path / "out-00001-of-00002.gguf").exists()
    assert "out-00001-of-00002.gguf is there already" in filbert(*asked, "--split-size", "60kB").stderr
    assert "Nobody has measured" in filbert("show", str(tmp_path / "out-00001-of-00002.gguf")).stdout


@pytest.mark.slow
def test_an_importance_matrix_is_made_and_used(filbert: Run, tmp_path: Path) -> None:
    text, pairs, matrix = tmp_path / "text.txt", tmp_path / "pairs.jsonl", tmp_path / "matrix.gguf"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 10)
    pairs.write_text(json.dumps({"prompt": "Say it.", "response": "It is said again and again. " * 10}) + "\n")
    words = ("imatrix", NAME, "--text", str(text), "--pairs", str(pairs), "--window", "64", "-o", str(matrix))
    assert "3 windows of 64 tokens, 211 tensors" in filbert(*words).stdout
    done = filbert("compress", NAME, "--to", "IQ2_S", "--allow-requantize", "--dry-run", "--imatrix", str(matrix))
    assert "IQ2_XS" in done.stdout


def test_a_text_of_ones_own_tells_which_columns_matter(filbert: Run, tmp_path: Path) -> None:
    model, text = make_tiny.dense(tmp_path / "tiny.gguf"), tmp_path / "mine.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 100)
    for words, has_matrix in (((), False), (("--text", str(text)), True)):
        out = tmp_path / f"{has_matrix}.gguf"
        filbert("compress", str(model), "--to", "Q4_0", "--no-measure", *words, "-o", str(out))
        said = making_of(read_header(out))
        assert said
        assert bool(said.imatrix_sha256) == has_matrix


@pytest.mark.slow
def test_without_a_text_it_reads_the_one_that_ships(filbert: Run, tmp_path: Path) -> None:
    model, matrix = make_tiny.dense(tmp_path / "tiny.gguf"), tmp_path / "matrix.gguf"
    assert "15 tensors" in filbert("imatrix", str(model), "--window", "2048", "-o", str(matrix)).stdout
    assert read_header(matrix).metadata["imatrix.datasets"] == ("chat", "code", "languages", "markdown", "prose")


def test_a_projector_comes_along_and_is_compressed_on_its_own(
    filbert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, projector = make_tiny.vision(tmp_path / "eyes.gguf", tmp_path / "mmproj-eyes.gguf")
    monkeypatch.chdir(tmp_path)
    filbert("compress", "./eyes.gguf", "--to", "Q8_0", "-o", "small.gguf", "--no-measure")
    assert Path("mmproj-small.gguf").read_bytes() == projector.read_bytes()
    assert in_place(model).projector == projector, "each model has its own, though there are two of them"
    assert in_place(tmp_path / "small.gguf").projector == tmp_path / "mmproj-small.gguf"
    again = filbert("compress", "./eyes.gguf", "--to", "Q8_0", "-o", "small2.gguf", "--dry-run")
    assert again.returncode == 0 and not Path("small2.gguf").exists() and not Path("mmproj-small2.gguf").exists()
    done = filbert("compress", "./mmproj-eyes.gguf", "--to", "Q8_0", "-o", "mmproj-small.gguf", "--force")
    assert any(line.split()[:4] == ["v.ffn_up", "2", "×", "Q8_0"] for line in done.stdout.splitlines())
    types = {tensor.name: tensor.type for tensor in read_header(Path("mmproj-small.gguf")).tensors}
    assert types["v.blk.1.attn_out.weight"] == types["mm.2.weight"] == "Q8_0"
    assert types["v.patch_embd.weight"] == types["v.position_embd.weight"] == types["mm.2.bias"] == "F32"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--to", "Q4_K_M"], "compressed already"),
        (["--to", "Q4_K_N", "--allow-requantize"], "Did you mean Q4_K_M"),
        ([], "It is not said how"),
        (["--to", "Q4_0", "--recipe", "a.toml"], "ask for different files"),
        (["--recipe", "nowhere.toml"], "cannot be read"),
        (["--to", "IQ2_XS", "--allow-requantize"], "needs an importance matrix"),
        (["--to", "Q4_0", "--allow-requantize", "--tensor-type", "x"], "is no rule"),
        (["--to", "Q4_0", "--allow-requantize", "--imatrix", "nowhere"], "nowhere"),
        (["--to", "Q4_0", "--split-size", "much"], "'much' is no size"),
        (["--to", "Q4_0", "--allow-requantize", "--split-size", "1MB"], "holds token_embd.weight"),
        (["--batch", "Q4_0"], "writes a folder"),
        (["--batch", "Q4_0,Q4_N", "-o", "x"], "There is no quantisation 'Q4_N'"),
    ],
)
def test_what_cannot_be_is_a_sentence(words: list[str], why: str, filbert: Run) -> None:
    done = filbert("compress", NAME, *words)
    assert done.returncode in (2, 6)
    assert why in done.stderr
    assert "Traceback" not in done.stderr
