from __future__ import annotations

from dataclasses import replace

import pytest

import make_tiny
from filbert.models import speed
from filbert.models.gguf import Header, read_header
from filbert.models.speed import Attention, Calibration, Rate, predict, share_missed

# A machine that reads a weight of F32 in a nanosecond from its cache of 1 MB and in three from memory.
MACHINE = Calibration(
    processor="a processor",
    engine="1",
    threads=2,
    measured="2026-01-01T00:00:00+00:00",
    busy_cores=0,
    rates={"F32": Rate(cached=1000, memory=3000, prompt=100), "Q8_0": Rate(cached=500, memory=500, prompt=50)},
    misses=((1e6, 0.0), (2e6, 1.0)),
    attention={"f16": Attention(token=100, kept=0, prompt=10), "q8_0": Attention(token=200, kept=0, prompt=20)},
    tensor=0,
    token=0,
    entry=0,
    activation=0,
)


@pytest.fixture
def dense(tmp_path) -> Header:
    return read_header(make_tiny.dense(tmp_path / "x.gguf"))


def read_a_token(header: Header) -> int:
    """Weights of the matrices, the embedding among them: it is the output as well."""
    return sum(tensor.count for tensor in header.tensors if len(tensor.shape) > 1)


def test_a_token_takes_what_its_weights_take(dense: Header) -> None:
    assert predict([dense], MACHINE).generation == pytest.approx(1e9 / read_a_token(dense))
    assert predict([dense], MACHINE).binds == "compute"


def test_what_the_cache_does_not_hold_comes_from_memory(dense: Header) -> None:
    small = MACHINE.model_copy(update={"misses": ((1.0, 1.0),)})
    assert predict([dense], small).generation == pytest.approx(1e9 / 3 / read_a_token(dense))
    assert predict([dense], small).binds == "memory bandwidth"


def test_between_measured_sizes_a_share_is_missed() -> None:
    assert [share_missed(MACHINE, size) for size in (0, 1e6, 1.5e6, 2e6, 1e10)] == [0, 0, 0.5, 1, 1]


def test_every_tensor_token_and_entry_has_its_price(dense: Header) -> None:
    dear = MACHINE.model_copy(update={"tensor": 1e-3, "token": 1e-2, "entry": 1e-4})
    more = 1e-3 * len(dense.tensors) + 1e-2 + 1e-4 * (dense.vocab_size or 0)
    assert 1 / (predict([dense], dear).generation or 0) == pytest.approx(read_a_token(dense) * 1e-9 + more)


def test_an_output_of_its_own_is_read_and_the_embedding_is_not(tmp_path, dense: Header) -> None:
    parts = make_tiny.dense_parts()
    parts.tensors["output.weight"] = parts.tensors["token_embd.weight"]
    make_tiny.write(tmp_path / "untied.gguf", parts)
    untied = predict([read_header(tmp_path / "untied.gguf")], MACHINE)
    assert untied.generation == pytest.approx(predict([dense], MACHINE).generation)


def test_of_experts_only_those_that_are_used_count(tmp_path, dense: Header) -> None:
    experts = read_header(make_tiny.experts(tmp_path / "e.gguf"))
    in_experts = sum(tensor.count for tensor in experts.tensors if "_exps." in tensor.name)
    half = read_a_token(experts) - in_experts // 2  # two of four
    assert predict([experts], MACHINE).generation == pytest.approx(1e9 / half)


def test_looking_back_takes_longer_the_more_there_is(dense: Header) -> None:
    empty, full = (1 / (predict([dense], MACHINE, context).generation or 0) for context in (0, 1000))
    values = make_tiny.BLOCKS * make_tiny.WIDTH * 1024  # whole pages
    assert full - empty == pytest.approx(values * 100e-12)
    q8 = 1 / (predict([dense], MACHINE, 1000, "q8_0").generation or 0)
    assert q8 - empty == pytest.approx(values * 200e-12)


def test_what_is_kept_of_the_tokens_before_is_read(dense: Header) -> None:
    machine = MACHINE.model_copy(update={"attention": {"f16": Attention(token=100, kept=50, prompt=10)}})
    empty, full = (1 / (predict([dense], machine, context).generation or 0) for context in (0, 1000))
    kept = make_tiny.BLOCKS * make_tiny.KV_HEADS * 2 * dense.key_length
    looked = make_tiny.BLOCKS * make_tiny.WIDTH
    assert full - empty == pytest.approx(1024 * (looked * 100e-12 + kept * 50e-12))


def test_a_type_that_was_not_measured_is_taken_for_the_nearest(dense: Header) -> None:
    tensors = tuple(replace(tensor, type="Q6_K") for tensor in dense.tensors)
    assert predict([replace(dense, tensors=tensors)], MACHINE).generation == pytest.approx(
        1e9 / (0.5 * read_a_token(dense))
    )


def test_an_embedder_writes_nothing_and_reads_texts(tmp_path) -> None:
    found = predict([read_header(make_tiny.embedder(tmp_path / "e.gguf"))], MACHINE)
    assert found.generation is None
    assert found.prompt > 0


def test_parts_are_one_model_and_a_projector_costs_no_token(tmp_path, dense: Header) -> None:
    parts = [read_header(path) for path in make_tiny.split(tmp_path / "s.gguf")]
    assert predict(parts, MACHINE).generation == pytest.approx(predict([dense], MACHINE).generation)
    model, projector = (read_header(path) for path in make_tiny.vision(tmp_path / "a.gguf", tmp_path / "b.gguf"))
    assert predict([model, projector], MACHINE) == predict([model], MACHINE)


def test_a_calibration_is_kept_for_its_processor_engine_and_threads(home) -> None:
    speed.keep(MACHINE)
    assert speed.kept("a processor", "1", 2) == MACHINE
    for other in (("another", "1", 2), ("a processor", "2", 2), ("a processor", "1", 3)):
        assert speed.kept(*other) is None


@pytest.mark.parametrize("written", ["", "{}", "not json", '{"threads": 2}'])
def test_a_damaged_calibration_is_none(home, written: str) -> None:
    speed.keep(MACHINE)
    (file,) = (home / "calibration").iterdir()
    file.write_text(written)
    assert speed.kept("a processor", "1", 2) is None
