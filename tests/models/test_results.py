"""What was measured of a model: kept by its bytes, replaced, found again, and left out where it is damaged."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest

from filbert.core import paths
from filbert.core.errors import BadInput, DiskFull
from filbert.models import catalogue, results
from filbert.report.measurement import Measurement, Named, Provenance, Result, named

HASH = "ab" * 32


def result(
    value: float = 0.9, sha256: str = HASH, run: str = "perplexity-1", time: str = "2026-11-24T10:00:00"
) -> Result:
    made_by = Provenance("m", sha256, "filbert 0.1.0", "a laptop", 2, "filbert perplexity m a.txt")
    measurement = Measurement(value=value, interval=(0.8, 1.0), against="a text", n=9, made_by=made_by)
    return Result(
        kind="perplexity",
        about="a.txt",
        settings="window 512",
        run=run,
        time=time,
        measurements=(named(measurement, "perplexity"),),
    )


def file_of(run: str = "perplexity-1") -> Path:
    return paths.evaluations_folder() / HASH[:16] / run / "result.json"


def test_a_result_is_found_again_by_the_files_hash() -> None:
    results.keep(result())
    results.keep(result(2.0, "cd" * 32))
    assert results.of(HASH) == (result(),)
    assert results.of("cd" * 32) == (result(2.0, "cd" * 32),)
    assert results.of("ef" * 32) == ()


def test_hashes_that_begin_alike_are_told_apart() -> None:
    results.keep(result())
    assert results.of(HASH[:16] + "0" * 48) == ()


def test_the_same_measured_again_takes_its_place_and_others_stand_beside_by_their_time() -> None:
    results.keep(result(1.0, run="perplexity-2", time="2026-11-25T10:00:00"))
    results.keep(result(2.0))
    results.keep(result(3.0))
    assert [each.measurements[0].value for each in results.of(HASH)] == [3.0, 1.0]


def test_a_run_is_named_by_all_that_was_asked() -> None:
    asked = [("perplexity", "a", 5), ("perplexity", "a", 6), ("perplexity", "a5", ""), ("pairs", "a", 5)]
    assert len({results.run_name(*each) for each in asked}) == 4
    assert results.run_name("pairs", "a", 5) == results.run_name("pairs", "a", 5)


def test_what_is_no_number_stays_so_in_a_file_that_is_json() -> None:
    odd = replace(result(), measurements=(replace(result().measurements[0], interval=(math.nan, math.inf)),))
    results.keep(odd)
    json.loads(file_of().read_text(), parse_constant=lambda name: pytest.fail(name))
    low, high = results.of(HASH)[0].measurements[0].interval
    assert math.isnan(low)
    assert high == math.inf


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:50],
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"format": 1,', ""),
        lambda text: json.dumps({**json.loads(text), "result": {**json.loads(text)["result"], "measurements": []}}),
        lambda text: "[" * 100_000,
        lambda text: "",
    ],
    ids=["cut", "other format", "no format", "no numbers", "deep", "empty"],
)
def test_a_file_that_cannot_be_read_is_logged_and_hides_nothing_else(change, caplog: pytest.LogCaptureFixture) -> None:
    results.keep(result())
    results.keep(result(2.0, run="perplexity-2"))
    file_of().write_text(change(file_of().read_text()))
    with caplog.at_level(logging.WARNING, "filbert"):
        assert results.of(HASH) == (result(2.0, run="perplexity-2"),)
    assert str(file_of()) in caplog.text


def test_a_folder_in_the_place_of_a_file_is_left_out() -> None:
    file_of().mkdir(parents=True)
    assert results.of(HASH) == ()


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "AB" * 32, "", "/dev/zero"])
def test_a_hash_that_is_none_never_becomes_a_path(sha256: str) -> None:
    for attempt in (lambda: results.of(sha256), lambda: results.keep(result(sha256=sha256))):
        with pytest.raises(BadInput, match="no sha256"):
            attempt()


def test_a_run_that_is_a_path_is_refused() -> None:
    with pytest.raises(BadInput, match="plain file name"):
        results.keep(result(run="../x"))


@pytest.mark.root
def test_a_full_disk_leaves_the_earlier_result(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(small_disk))
    results.keep(result())
    with pytest.raises(OSError), (small_disk / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    with pytest.raises(DiskFull):
        results.keep(result(2.0))
    assert results.of(HASH) == (result(),)


def test_a_catalogue_entry_has_room_for_results() -> None:
    entry = catalogue.entries()[0].model_copy(update={"measured": (result(),)})
    assert catalogue.Entry.model_validate_json(entry.model_dump_json()) == entry


def test_what_is_shipped_comes_before_what_was_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.entries()[0].model_copy(update={"measured": (result(7.0), result(8.0, "cd" * 32))})
    monkeypatch.setattr(catalogue, "entries", lambda: (entry,))
    results.keep(result())
    assert results.of(HASH) == (result(7.0), result())


def test_a_result_is_told_with_its_interval_baseline_and_command() -> None:
    assert str(result()) == (
        "perplexity, a.txt, window 512: perplexity 0.9 (95 %: 0.8 to 1); against a text, n 9, 2026-11-24; "
        "again: filbert perplexity m a.txt"
    )


@pytest.mark.parametrize(
    ("unit", "value", "told"),
    [("share", 0.66666, "66.7 %"), ("bytes", 2e6, "2 MB"), ("tokens/s", 70.123, "70.12 tokens/s"), ("", 3.0, "3")],
)
def test_a_number_is_told_by_its_unit(unit: str, value: float, told: str) -> None:
    assert Named.told(replace(result().measurements[0], unit=unit), value) == told


def test_the_adapters_upon_a_model_are_told_with_its_result() -> None:
    (plain,) = result().measurements
    adapted = replace(plain, made_by=replace(plain.made_by, adapters=("tone.gguf",)))
    assert str(replace(result(), measurements=(adapted,))).startswith("perplexity, a.txt, window 512 with tone.gguf: ")
    assert "(sha256 abababababab) with tone.gguf, filbert" in str(adapted.made_by)
    assert "with" not in str(result())
