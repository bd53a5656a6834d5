"""A model re-scaled: it says the same, rounds better, and is left alone where it does neither."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import make_tiny
from filbert.compress import equalise
from filbert.compress.equalise import Factors, chosen, equalised_job, write_job
from filbert.compress.imatrix import ImportanceMatrix, Text, imatrix_job, read_imatrix
from filbert.compress.plan import Plan, Source
from filbert.compress.prepare import Asked, folder_of
from filbert.compress.quantise import quantise_job
from filbert.compress.symmetry import Symmetry, symmetries
from filbert.core.errors import BadModelFile, DiskFull, StoreBusy
from filbert.core.jobs import Job, finish
from filbert.core.settings import checked
from filbert.engine.divergence import Divergence
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.models.gguf import check_split, read_header
from filbert.models.store import in_place

TEXT = Text("war-and-peace.txt", (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")[:6_000])


def plan_of(file: Path) -> LoadPlan:
    return LoadPlan(in_place(file), checked(LoadOptions, {"threads": 2}))


def source_of(file: Path) -> Source:
    stored = in_place(file)
    return Source(stored, check_split(stored.parts))


def asked_of(file: Path, importance: ImportanceMatrix) -> Asked:
    return Asked(source_of(file), plan_of(file).options, [TEXT], importance)


def matrix_of(file: Path) -> ImportanceMatrix:
    return finish(imatrix_job(plan_of(file), [TEXT], 64, file.with_suffix(".im.gguf")))


def some_factors(source: Source) -> Factors:
    """Of every symmetry, by chance."""
    rng = np.random.default_rng(3)
    found = finish(equalise._columns(source, matrix_of(source.stored.path)))
    assert [each.symmetry for each in found] == symmetries(source.headers)
    chance = [
        equalise.Columns(each.symmetry, rng.lognormal(0, 1, each.squares.shape).astype(np.float32), each.used)
        for each in found
    ]
    return equalise.factors_of(chance, 0)


def apart(full: Path, other: Path, folder: Path) -> float:
    """Nats a token."""
    with Divergence(plan_of(full), [(TEXT.text, False)], 64, 4, folder) as divergence:
        (windows,) = finish(divergence.of(plan_of(other)))
    return float(np.mean([np.mean(np.array(window.kl)) for window in windows]))


def llama(file: Path) -> Path:
    return make_tiny.dense(file)


def qwen2(file: Path) -> Path:
    """Has biases, of values too."""
    parts = make_tiny.dense_parts()
    parts.architecture = "qwen2"
    parts.metadata = {key.replace("llama.", "qwen2."): value for key, value in parts.metadata.items()}
    rng = np.random.default_rng(5)
    for name in [name for name in parts.tensors if any(f"attn_{each}." in name for each in "qkv")]:
        length = len(parts.tensors[name])
        parts.tensors[name.replace("weight", "bias")] = rng.normal(0, 0.3, length).astype(np.float32)
    make_tiny.write(file, parts)
    return file


def mixtral(file: Path) -> Path:
    return make_tiny.experts(file)


def in_several(file: Path) -> Path:
    return make_tiny.split(file.with_suffix(""))[0]


@pytest.mark.parametrize("made", [llama, qwen2, mixtral, in_several])
def test_whatever_the_factors_it_says_the_same(made: Callable[[Path], Path], tmp_path: Path) -> None:
    full, other = made(tmp_path / "full.gguf"), tmp_path / "other.gguf"
    source = source_of(full)
    factors = some_factors(source)
    finish(write_job(source, matrix_of(full), factors, other))
    before = {name: path.read_bytes()[tensor.offset :][:32] for name, (tensor, path) in source.tensors.items()}
    after = {tensor.name: other.read_bytes()[tensor.offset :][:32] for tensor in read_header(other).tensors}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == factors.columns.keys() | factors.rows.keys()
    assert len(changed) >= 2 * 7
    assert apart(full, other, tmp_path / "logits") < 1e-5


def test_its_importance_matrix_is_the_one_that_it_would_get(tmp_path: Path) -> None:
    full, other = llama(tmp_path / "full.gguf"), tmp_path / "other.gguf"
    finish(write_job(source_of(full), matrix_of(full), some_factors(source_of(full)), other))
    ours, theirs = read_imatrix(other.with_suffix(".imatrix.gguf")), matrix_of(other)
    tensors = [tensor for tensor in read_header(other).tensors if tensor.name in theirs.names]
    assert len(tensors) == 1 + 2 * 7  # the head is tied
    for tensor in tensors:
        assert np.allclose(ours.usage(tensor), theirs.usage(tensor), rtol=0.02), tensor.name


def test_16_bit_matrices_stay_as_large_and_get_finer(tmp_path: Path) -> None:
    """BF16 becomes F16."""
    parts = make_tiny.dense_parts()
    parts.quantised = gguf.GGMLQuantizationType.BF16
    make_tiny.write(tmp_path / "full.gguf", parts)
    brain, other = tmp_path / "full.gguf", tmp_path / "other.gguf"
    finish(write_job(source_of(brain), matrix_of(brain), some_factors(source_of(brain)), other))
    types = {tensor.name: tensor.type for tensor in read_header(other).tensors}
    assert types["token_embd.weight"] == "BF16"  # it is not re-scaled
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_norm.weight"] == "F32"
    assert apart(brain, other, tmp_path / "logits") < 2e-4


@pytest.mark.slow
def test_it_rounds_better_and_is_not_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = make_tiny.uneven(tmp_path / "full.gguf")
    importance = matrix_of(full)
    found = finish(equalised_job(asked_of(full, importance)))
    assert found
    (story,) = folder_of(in_place(full)).glob("equalised-*.json")
    losses = {exponent: np.mean(kl) for exponent, kl in json.loads(story.read_text("utf-8"))}
    assert list(losses) == [None, *equalise.EXPONENTS]
    assert found.source.exponent == chosen(dict(json.loads(story.read_text("utf-8"))))
    assert losses[found.source.exponent] < 0.6 * losses[None]
    assert found.source.original == in_place(full)
    assert found.importance.sha256 == importance.sha256
    assert not story.with_suffix(".work").exists()

    monkeypatch.setattr(equalise, "unseen", None)
    was = found.source.stored.path.read_bytes()
    with pytest.raises(StoreBusy):
        finish(equalised_job(asked_of(full, importance)))
    found.close()
    assert not found.source.stored.path.exists()
    again = finish(equalised_job(asked_of(full, importance)))
    assert (again.source, again.importance) == (found.source, found.importance)
    assert again.source.stored.path.read_bytes() == was


def test_the_smallest_exponent_is_chosen_that_chance_does_not_tell_from_the_best() -> None:
    plain = [0.30, 0.40, 0.20, 0.50]
    near, best = [0.11, 0.20, 0.10, 0.22], [0.10, 0.21, 0.10, 0.21]
    assert chosen({None: plain, 0.0: [0.2, 0.3, 0.1, 0.4], 0.05: near, 0.1: best}) == 0.05
    assert chosen({None: plain, 0.0: near, 0.05: [loss - 0.05 for loss in near], 0.1: plain}) == 0.05
    assert chosen({None: plain, 0.0: [0.29, 0.41, 0.20, 0.50], 0.05: [0.5] * 4, 0.1: plain}) is None
    assert chosen({None: []}) is None  # the engine found it to be another model


@pytest.mark.slow
def test_after_a_kill_it_goes_on_with_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = make_tiny.uneven(tmp_path / "full.gguf")
    job, compared = equalised_job(asked_of(full, matrix_of(full))), 0
    for event in job:  # until the second exponent is measured
        compared += event.step == "re-scalings"
        if compared == 3:
            break
    job.close()
    (story,) = folder_of(in_place(full)).glob("equalised-*.json")
    before = json.loads(story.read_text("utf-8"))
    assert [exponent for exponent, _ in before] == [None, 0.0]
    rounded = []

    def counted(made: Plan, target: Path, **how: Any) -> Job[Path]:
        rounded.append(made.source.exponent)
        return quantise_job(made, target, **how)

    monkeypatch.setattr(equalise, "quantise_job", counted)
    assert finish(equalised_job(asked_of(full, matrix_of(full))))
    assert rounded == list(equalise.EXPONENTS[1:])
    assert json.loads(story.read_text("utf-8"))[:2] == before


def test_columns_of_exponent_0_have_one_size(tmp_path: Path) -> None:
    full = make_tiny.uneven(tmp_path / "full.gguf")
    columns = finish(equalise._columns(source_of(full), matrix_of(full)))
    finish(write_job(source_of(full), matrix_of(full), equalise.factors_of(columns, 0), tmp_path / "other.gguf"))
    for file, is_even in ((full, False), (tmp_path / "other.gguf", True)):
        tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
        assert tensors["blk.1.ffn_down.weight"].shape == (make_tiny.WIDTH, make_tiny.FEED)
        sizes = np.sqrt(np.square(tensors["blk.1.ffn_down.weight"]).mean(0))
        assert (sizes.std() < 1e-5 * sizes.mean()) == is_even


def test_what_the_engine_finds_to_be_another_model_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = make_tiny.uneven(tmp_path / "full.gguf")
    wrong = [Symmetry(("blk.0.attn_q.weight",), ("blk.0.attn_norm.weight",))]  # keys and values read the norm, too
    monkeypatch.setattr(equalise, "symmetries", lambda headers: wrong)
    assert finish(equalised_job(asked_of(full, matrix_of(full)))) is None
    assert finish(equalised_job(asked_of(full, matrix_of(full)))) is None
    assert sorted(file.suffix for file in folder_of(in_place(full)).glob("equalised-*")) == [".json"]


@pytest.mark.parametrize("made", [make_tiny.embedder, make_tiny.quantised], ids=["embedder", "compressed"])
def test_what_writes_no_text_or_is_compressed_is_left_alone(made: Callable[[Path], Path], tmp_path: Path) -> None:
    full = made(tmp_path / "full.gguf")
    importance = matrix_of(llama(tmp_path / "other.gguf"))
    assert finish(equalised_job(asked_of(full, importance))) is None
    assert not list(folder_of(in_place(full)).glob("equalis*"))


def test_a_source_that_ends_early_is_told(tmp_path: Path) -> None:
    full = llama(tmp_path / "full.gguf")
    source, importance = source_of(full), matrix_of(full)
    full.write_bytes(full.read_bytes()[:-4_000])
    with pytest.raises(BadModelFile, match="ends within"):
        finish(equalise._columns(source, importance))


def test_without_room_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = llama(tmp_path / "full.gguf")
    source, factors, importance = source_of(full), some_factors(source_of(full)), matrix_of(full)
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(DiskFull):
        finish(write_job(source, importance, factors, tmp_path / "other.gguf"))
    assert not (tmp_path / "other.gguf").exists()
