from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile
from filbert.models import catalogue, measured
from filbert.models.catalogue import Measured
from filbert.report.measurement import Measurement, Provenance

HASH = "ab" * 32
ADDER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_measured import result
from filbert.models import measured
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 15):
    measured.add(result(float(number)))
"""


def result(value: float = 0.9, sha256: str = HASH) -> Measured:
    made_by = Provenance("m", sha256, "filbert 0.1.0", "a laptop", 2, "filbert perplexity m a.txt")
    measurement = Measurement(value=value, interval=(0.8, 1.0), against="a.txt", n=9, made_by=made_by)
    return Measured(what="perplexity", name="a.txt", unit="nats", measurement=measurement, date="2026-11-24")


def test_a_result_is_found_again_by_the_files_hash() -> None:
    measured.add(result())
    measured.add(result(2.0, "cd" * 32))
    assert measured.of(HASH) == (result(),)
    assert measured.of("cd" * 32) == (result(2.0, "cd" * 32),)
    assert measured.of("ef" * 32) == ()


def test_two_processes_that_add_at_once_lose_nothing() -> None:
    command = [sys.executable, "-c", ADDER, str(__file__).rpartition("/")[0]]
    adding = [subprocess.Popen([*command, str(start)]) for start in (0, 15)]
    assert [process.wait(60) for process in adding] == [0, 0]
    assert sorted(each.measurement.value for each in measured.of(HASH)) == [float(n) for n in range(30)]


def test_a_damaged_file_is_said_and_left_as_it_is() -> None:
    measured.add(result())
    path = paths.data_folder() / "measured" / f"{HASH}.json"
    path.write_text(cut := path.read_text()[:50])
    for attempt in (lambda: measured.of(HASH), lambda: measured.add(result())):
        with pytest.raises(BadModelFile, match="damaged"):
            attempt()
    assert path.read_text() == cut


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "AB" * 32, "", "/dev/zero"])
def test_a_hash_that_is_none_never_becomes_a_path(sha256: str) -> None:
    with pytest.raises(BadInput, match="no sha256"):
        measured.of(sha256)
    with pytest.raises(ValidationError):
        result(sha256=sha256)


def test_a_catalogue_entry_has_room_for_results() -> None:
    entry = catalogue.entries()[0].model_copy(update={"measured": (result(),)})
    assert catalogue.Entry.model_validate_json(entry.model_dump_json()) == entry


def test_a_result_is_told_with_its_interval_baseline_and_command() -> None:
    assert str(result()) == (
        "perplexity a.txt: 0.9 nats (95 %: 0.8 to 1), against a.txt, 2026-11-24; again: filbert perplexity m a.txt"
    )
