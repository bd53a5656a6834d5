"""What a compressed file says of its making: in its header, on its card, and measured before it has its name."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import gguf
import pytest

import make_tiny
from filbert.compress.card import card, write_card
from filbert.compress.making import KINDS, NOT_MEASURED, Kind, Making, Measured, making_of
from filbert.compress.measure import MOST_WINDOWS, can_measure, measure_job
from filbert.compress.plan import Plan, Source, plan
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import stock
from filbert.compress.texts import check_sha256
from filbert.core.errors import BadInput, EngineError
from filbert.core.jobs import Job, Progress, finish
from filbert.engine.fidelity import Figure
from filbert.engine.load_options import LoadOptions
from filbert.models.gguf import check_split, read_header
from filbert.models.store import in_place

SAID = {
    "general.license": "apache-2.0",
    "general.base_model.0.repo_url": "https://example.org/nuts/hazel-1b",
}
COMMAND = "filbert compress tiny.gguf --to Q8_0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    stored = in_place(make_tiny.dense(tmp_path_factory.mktemp("tiny") / "tiny.gguf", metadata=SAID))
    return plan(Source(stored, check_split(stored.parts)), stock("Q8_0"), command=COMMAND)


@pytest.fixture(scope="module")
def measured(made: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("made") / "tiny-Q8_0.gguf"
    return finish(quantise_job(made, target, measure=partial(measure_job, made, load=LoadOptions())))


def tensors(file: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(file).tensors}


def test_a_file_says_what_it_was_made_of(made: Plan, tmp_path: Path) -> None:
    file = finish(quantise_job(made, tmp_path / "out.gguf"))
    assert file.stat().st_size == made.size_bytes
    making = making_of(read_header(file))
    assert making == made.making
    assert making.source == "tiny.gguf"
    assert making.source_sha256 == made.source.stored.sha256
    assert (making.recipe, making.imatrix_sha256, making.command) == ("Q8_0", "", COMMAND)
    assert making.measured is None
    fields = gguf.GGUFReader(file).fields  # others read it, too
    assert fields["filbert.source.name"].contents() == "tiny.gguf"
    assert fields["filbert.measured.tokens"].contents() == [0] * 5
    assert all(map(math.isnan, fields["filbert.measured.kl"].contents()))


@pytest.mark.slow
def test_what_was_measured_moves_no_weight(made: Plan, measured: Path, tmp_path: Path) -> None:
    making = making_of(read_header(measured))
    assert making
    found = making.measured
    assert found
    assert making.of_the_same(made.making)
    assert tuple(kind.name for kind in found.kinds) == KINDS
    each = MOST_WINDOWS * (found.window - 1)
    assert [kind.tokens for kind in found.kinds] == [4 * each, each, each, each, each]
    for kind in found.kinds:
        low, high = kind.kl.interval
        assert 0 < low <= kind.kl.value <= high < 0.1, kind
        assert 0.9 < kind.perplexity_ratio.value < 1.1
        assert 0.5 < kind.same_top.value <= 1
    assert found.text_sha256 == check_sha256()
    plain = finish(quantise_job(made, tmp_path / "plain.gguf"))
    assert tensors(plain) == tensors(measured)
    assert plain.stat().st_size == measured.stat().st_size
    assert not list(measured.parent.glob(".*"))


def test_a_measuring_that_fails_costs_nothing_that_was_written(made: Plan, tmp_path: Path) -> None:
    def failing(file: Path) -> Job[Measured]:
        yield Progress("measure")
        raise EngineError("It failed.", do="Do without.")

    target = tmp_path / "out.gguf"
    with pytest.raises(EngineError):
        finish(quantise_job(made, target, measure=failing))
    assert not target.exists()
    events: list[Progress] = []
    finish(quantise_job(made, target), events.append)
    assert events[1].done == events[1].total
    assert target.exists()


def test_numbers_come_back_as_they_were_told() -> None:
    kinds = [Kind(name, 7, Figure(0.5, (0.25, 0.75)), Figure(1, (1, 2)), Figure(0.5, (0, 1))) for name in KINDS]
    making = Making("a", "b", "c", "d", "", "e", measured=Measured(kinds, 512, "f" * 64))
    lengths = {key: len(str(value)) for key, value in making.keys().items() if "sha256" in key}
    assert lengths["filbert.measured.sha256"] == len(NOT_MEASURED.text_sha256)
    assert making.to_json()["measured"]["kinds"]["all"] == {
        "tokens": 7,
        "kl": [0.5, 0.25, 0.75],
        "perplexity_ratio": [1, 1, 2],
        "same_top": [0.5, 0, 1],
    }


@pytest.mark.slow
def test_a_card_tells_it_in_markdown(measured: Path) -> None:
    text = write_card(measured).read_text("utf-8")
    assert text == card(measured)
    assert text.startswith('---\nlicense: "apache-2.0"\nbase_model: "nuts/hazel-1b"\nbase_model_relation: quantized\n')
    assert f"`{COMMAND}`" in text
    assert "| rare scripts | " in text
    assert "filbert chat --model tiny-Q8_0.gguf" in text
    assert "| licence | apache-2.0 |" in text


def test_a_file_that_is_not_ours_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not say how it was made"):
        card(make_tiny.dense(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize("changed", [{"filbert.measured.tokens": [1, 2]}, {"filbert.measured.kl": "x"}])
@pytest.mark.slow
def test_what_somebody_else_wrote_there_is_not_believed(
    changed: dict[str, object], measured: Path, tmp_path: Path
) -> None:
    said = making_of(read_header(measured))
    assert said
    parts = make_tiny.dense_parts(metadata={**said.keys(), **changed})
    make_tiny.write(tmp_path / "odd.gguf", parts)
    assert making_of(read_header(tmp_path / "odd.gguf")) is None


def test_no_memory_and_no_text_are_no_measuring(made: Plan, tmp_path: Path) -> None:
    assert can_measure(made.source, made.size_bytes)
    stored = in_place(make_tiny.embedder(tmp_path / "embedder.gguf"))
    source = Source(stored, check_split(stored.parts))
    assert not can_measure(source, plan(source, stock("Q8_0")).size_bytes)


@pytest.mark.slow
def test_a_source_that_was_compressed_by_us_is_told_of_anew(measured: Path, tmp_path: Path) -> None:
    stored = in_place(measured)
    made = plan(Source(stored, check_split(stored.parts)), stock("Q4_0"), requantise=True)
    making = making_of(read_header(finish(quantise_job(made, tmp_path / "again.gguf"))))
    assert making == made.making
    assert making.recipe == "Q4_0"
    assert making.measured is None


# In several files


def split_plan(made: Plan, split_bytes: int) -> Plan:
    return plan(made.source, stock("Q8_0"), split_bytes=split_bytes)


@pytest.mark.slow
def test_a_split_model_is_as_gguf_split_has_it_and_loads(made: Plan, measured: Path, tmp_path: Path) -> None:
    split = split_plan(made, 60_000)
    first = finish(quantise_job(split, tmp_path / "out.gguf", measure=partial(measure_job, split, load=LoadOptions())))
    stored = in_place(first)
    assert first.name == f"out-00001-of-{len(split.parts):05}.gguf"
    assert len(stored.parts) == len(split.parts) > 1
    headers = check_split(stored.parts)
    assert all(file.stat().st_size <= 60_000 for file in stored.parts)
    assert sum(file.stat().st_size for file in stored.parts) == split.size_bytes
    for number, file in enumerate(stored.parts):
        fields = gguf.GGUFReader(file).fields
        assert fields["split.no"].types == [gguf.GGUFValueType.UINT16]
        assert fields["split.tensors.count"].types == [gguf.GGUFValueType.INT32]
        assert ("general.architecture" in fields) == (number == 0)
    assert {name: data for file in stored.parts for name, data in tensors(file).items()} == tensors(measured)
    making, whole = making_of(headers[0]), making_of(read_header(measured))
    assert making and whole and making.measured == whole.measured
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix == ".gguf") == split.names("out.gguf")


def test_a_tensor_larger_than_a_file_is_a_sentence(made: Plan) -> None:
    with pytest.raises(BadInput, match="No file of 20 kB holds token_embd"):
        split_plan(made, 20_000).parts  # noqa: B018


def test_training_is_told(made: Plan, tmp_path: Path) -> None:
    one = Figure(1.0, (1.0, 1.0))

    def measure(_: Path) -> Job[Measured]:
        yield from ()
        return Measured([Kind(name, 10, one, one, one) for name in KINDS], 512, trained_steps=7)

    file = finish(quantise_job(made, tmp_path / "out.gguf", measure=measure))
    making = making_of(read_header(file))
    assert making
    assert making.measured
    assert making.measured.trained_steps == 7
    assert "7 steps" in card(file)
    assert "steps" not in card(finish(quantise_job(made, tmp_path / "other.gguf")))
