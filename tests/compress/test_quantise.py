"""A smaller file of a model: the bytes that llama.cpp's quantiser writes, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from filbert.compress.imatrix import ImportanceMatrix, read_imatrix
from filbert.compress.plan import Plan, Source, plan, rows
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import Recipe, rule, stock
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.jobs import finish
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.sampling import Sampling
from filbert.models.gguf import check_split, read_header
from filbert.models.store import in_place
from requantise import first_block
from shapes import FAMILIES, some_imatrix

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/quantised.json").read_text())
BLOCK = ("blk.0.attn_q.weight", "blk.0.ffn_down.weight")  # rows of 576 and of 1536 numbers


def hashes(file: Path) -> dict[str, str]:
    data = file.read_bytes()
    return {
        tensor.name: hashlib.sha256(data[tensor.offset :][: tensor.size_bytes]).hexdigest()[:16]
        for tensor in read_header(file).tensors
    }


def two_tensors(kind: str) -> Recipe:
    """Of that type, all else as it stands."""
    return Recipe(name="two", type="F16", rules=tuple(rule(name, kind) for name in BLOCK))


@pytest.fixture(scope="module")
def one_block(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    file = first_block(starter, tmp_path_factory.mktemp("block") / "block.gguf")
    return Source(in_place(file), [read_header(file)])


SEARCHED = ("IQ1", "IQ2", "IQ3")  # on grids: seconds each


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * kind.startswith(SEARCHED)) for kind in GOLDEN["imatrix"]]
)
def test_bytes_are_those_of_llama_quantize(kind: str, one_block: Source, tmp_path: Path) -> None:
    """tools/record_quantised.py wrote down what llama-quantize of the engine's own sources made of the same file."""
    lengths = dict(zip(BLOCK, (576, 1536), strict=True))
    matrix = read_imatrix(some_imatrix(tmp_path / "imatrix.gguf", lengths))
    for how, used in (("plain", None), ("imatrix", matrix)):
        if expected := GOLDEN[how].get(kind):
            made = plan(one_block, two_tensors(kind), used)
            found = hashes(finish(quantise_job(made, tmp_path / f"{how}.gguf")))
            assert {name: found[name] for name in expected} == expected, how


def test_what_is_written_is_a_model_that_answers(source: Source, tmp_path: Path) -> None:
    made = plan(source, stock("Q4_K_M"))
    file = finish(quantise_job(made, tmp_path / "out.gguf"))
    assert file.stat().st_size == made.size_bytes
    header = read_header(file)
    assert header.quantisation == "Q4_K_M"
    assert header.chat_template == source.headers[0].chat_template
    assert {tensor.name: tensor.type for tensor in header.tensors} == {e.tensor.name: e.type for e in made.tensors}
    kept = {
        key for key in source.headers[0].metadata if key not in ("general.file_type", "general.quantization_version")
    }
    assert all(header.load(key) == source.headers[0].load(key) for key in kept)
    with Model(in_place(file), LoadOptions()) as model:
        assert "Paris" in model.complete("The capital of France is", Sampling(temperature=0, max_tokens=8)).text
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_other_readers_agree(source: Source, tmp_path: Path) -> None:
    """What `gguf` dequantises is near what was quantised: the file is laid out as the format says."""
    file = finish(quantise_job(plan(source, stock("Q8_0")), tmp_path / "out.gguf"))
    full = {tensor.name: tensor for tensor in gguf.GGUFReader(source.stored.path).tensors}
    for tensor in gguf.GGUFReader(file).tensors:
        before = full[tensor.name].data.astype(np.float32)
        after = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(after - before).max() <= np.abs(before).max() / 127 + 1e-6, tensor.name


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_bytes(source: Source, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    code = (
        "import sys; from pathlib import Path; from filbert.compress.plan import *; from filbert.compress.quantise import *;"
        "from filbert.compress.recipe import stock; from filbert.core.jobs import finish;"
        "from filbert.models.gguf import check_split; from filbert.models.store import in_place;"
        "s = in_place(Path(sys.argv[1])); s = Source(s, check_split(s.parts));"
        "finish(quantise_job(plan(s, stock('Q5_K_M')), Path(sys.argv[2]), threads=1))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, source.stored.path, target])
    story = tmp_path / ".out.gguf.part/story.json"
    while not story.exists():
        assert child.poll() is None
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not target.exists()
    done = json.loads(story.read_text())["tensors"]
    part = tmp_path / ".out.gguf.part/out.gguf"
    before = part.read_bytes()[:2_000_000]
    made = plan(source, stock("Q5_K_M"))
    events = []
    finish(quantise_job(made, target), events.append)
    assert 0 < done < len(made.tensors)
    assert events[1].done == sum(each.tensor.count for each in made.tensors[:done])
    assert target.read_bytes()[:2_000_000] == before
    assert not list(tmp_path.glob(".out*"))
    whole = finish(quantise_job(made, tmp_path / "whole.gguf"))
    assert whole.read_bytes() == target.read_bytes()


def test_another_plan_begins_anew(source: Source, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    job = quantise_job(plan(source, stock("Q4_0")), target)
    for event in job:
        if event.done:
            break
    job.close()
    (tmp_path / ".out.gguf.part/story.json").write_text(json.dumps({"of": "something else", "tensors": 100}))
    events = []
    finish(quantise_job(plan(source, two_tensors("Q4_0")), target), events.append)
    assert events[1].done == 0


@pytest.mark.slow
def test_an_importance_matrix_lessens_the_weighted_error(
    source: Source, matrix: ImportanceMatrix, tmp_path: Path
) -> None:
    name = BLOCK[0]
    recipe = two_tensors("Q4_0")
    files = [
        finish(quantise_job(plan(source, recipe, used), tmp_path / f"{i}.gguf"))
        for i, used in enumerate((None, matrix))
    ]
    full = next(t for t in gguf.GGUFReader(source.stored.path).tensors if t.name == name).data.astype(np.float32)
    squares = next(t for t in gguf.GGUFReader(matrix.path).tensors if t.name == f"{name}.in_sum2").data.reshape(-1)
    errors = []
    for file in files:
        tensor = next(t for t in gguf.GGUFReader(file).tensors if t.name == name)
        errors.append(
            float((np.square(gguf.quants.dequantize(tensor.data, tensor.tensor_type) - full) * squares).sum())
        )
    assert errors[1] < 0.9 * errors[0]


# What is refused


def test_what_is_compressed_already_is_refused_unless_it_may_be(starter: Path, tmp_path: Path) -> None:
    stored = in_place(starter)
    source = Source(stored, check_split(stored.parts))
    with pytest.raises(BadInput, match="compressed already"):
        plan(source, stock("Q4_0"))
    made = plan(source, two_tensors("Q8_0"), requantise=True)
    assert read_header(finish(quantise_job(made, tmp_path / "out.gguf"))).tensors


@pytest.mark.parametrize("kind", ["IQ2_XXS", "IQ2_XS", "IQ1_S"])
def test_types_that_cannot_do_without_an_importance_matrix(kind: str, source: Source) -> None:
    with pytest.raises(BadInput, match="needs an importance matrix"):
        plan(source, Recipe(name="x", type="Q8_0", rules=(rule("ffn_down", kind),)))


def test_a_matrix_of_another_model_is_refused(matrix: ImportanceMatrix, tmp_path: Path) -> None:
    file = FAMILIES["llama-1b"].write(tmp_path / "other.gguf")
    source = Source(in_place(file), [read_header(file)])
    with pytest.raises(BadInput, match="not of this model"):
        finish(quantise_job(plan(source, stock("Q4_0"), matrix), tmp_path / "out.gguf"))
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_name_their_tensor(
    value: float, full: Path, source: Source, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(full.read_bytes())
    tensor = next(tensor for tensor in source.headers[0].tensors if tensor.name == BLOCK[1])
    with damaged.open("r+b") as file:
        file.seek(tensor.offset + 100)
        file.write(np.float16(value).tobytes())
    with pytest.raises(BadInput, match=r"blk\.0\.ffn_down\.weight holds weights that are no numbers"):
        finish(
            quantise_job(plan(replace(source, stored=in_place(damaged)), two_tensors("Q4_K")), tmp_path / "out.gguf")
        )
    assert not list(tmp_path.glob("*out*"))


def test_a_source_that_was_cut_since_is_told(full: Path, source: Source, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(full.read_bytes()[:50_000_000])
    with pytest.raises(BadModelFile, match="ends within"):
        finish(quantise_job(plan(replace(source, stored=in_place(cut)), stock("Q8_0")), tmp_path / "out.gguf"))


def test_the_table_of_a_plan_adds_up(source: Source) -> None:
    made: Plan = plan(source, stock("Q4_K_M"))
    table = {name: (types, size) for name, types, size in rows(made)}
    assert table["attn_q"][0] == "30 × Q5_0 for Q4_K"
    assert table["token_embd"][0] == "1 × Q8_0 for Q6_K"
    assert len(made.fallen_back) == 181
    assert 5 < made.bits_a_weight < 7
