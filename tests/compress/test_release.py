"""A model in several sizes: a folder that can be handed on, and is made on where it was left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

import make_tiny
from filbert.compress.measure import Measure, measure_job
from filbert.compress.plan import Plan, Source, plan
from filbert.compress.recipe import stock
from filbert.compress.release import release_job
from filbert.core.errors import BadInput
from filbert.core.jobs import finish
from filbert.engine.load_options import LoadOptions
from filbert.models.gguf import check_split
from filbert.models.store import in_place


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Plan]:
    stored = in_place(make_tiny.dense(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))
    source = Source(stored, check_split(stored.parts))
    asked = {"tiny-Q8_0.gguf": None, "tiny-Q4_0.gguf": 60_000}
    return {
        name: plan(source, stock(name[5:9]), command=f"filbert compress tiny.gguf --to {name[5:9]}", split_bytes=split)
        for name, split in asked.items()
    }


def test_a_release_is_a_folder_that_checks_itself(plans: Mapping[str, Plan], tmp_path: Path) -> None:
    made = finish(release_job(plans, tmp_path, {}))
    first, *parts = sorted(file.name for file in tmp_path.glob("*.gguf"))
    assert len(parts) > 1
    assert first.startswith("tiny-Q4_0-00001-of-")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(parts) + 1
    index = json.loads((tmp_path / "index.json").read_text())
    assert [each["name"] for each in index] == ["tiny-Q4_0.gguf", "tiny-Q8_0.gguf"]  # the smallest first
    assert sum(file["bytes"] for file in index[0]["files"]) == plans["tiny-Q4_0.gguf"].size_bytes
    assert index[1]["recipe"] == "Q8_0"
    told = (tmp_path / "README.md").read_text("utf-8")
    assert "filbert compress tiny.gguf --to Q4_0" in told
    assert "| tiny-Q8\\_0.gguf | " in told
    assert (tmp_path / "tiny-Q8_0.md").exists()
    assert not (tmp_path / "size-against-loss.svg").exists()  # nobody has measured them
    assert "![" not in told
    assert [each.name for each in made] == [each["name"] for each in index]


def test_what_is_finished_is_not_made_again(plans: Mapping[str, Plan], tmp_path: Path) -> None:
    finish(release_job({"tiny-Q8_0.gguf": plans["tiny-Q8_0.gguf"]}, tmp_path, {}))
    before = (tmp_path / "tiny-Q8_0.gguf").stat()
    steps: list[str] = []
    finish(release_job(plans, tmp_path, {}), lambda event: steps.append(event.step))
    after = (tmp_path / "tiny-Q8_0.gguf").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert steps[0] == "sha256 of tiny-Q8_0.gguf"
    assert "quantise" in steps


def test_a_file_of_that_name_that_is_something_else_is_left_alone(plans: Mapping[str, Plan], tmp_path: Path) -> None:
    (tmp_path / "tiny-Q8_0.gguf").write_bytes(plans["tiny-Q8_0.gguf"].source.stored.path.read_bytes())
    with pytest.raises(BadInput, match="is there already"):
        finish(release_job(plans, tmp_path, {}))
    assert not (tmp_path / "SHA256SUMS").exists()


@pytest.mark.slow
def test_what_was_measured_is_drawn(plans: Mapping[str, Plan], tmp_path: Path) -> None:
    finish(release_job(plans, tmp_path, {}))  # without: they are measured all the same when that is asked for
    measures: dict[str, Measure] = {
        name: partial(measure_job, made, load=LoadOptions()) for name, made in plans.items()
    }
    finish(release_job(plans, tmp_path, measures))
    index = json.loads((tmp_path / "index.json").read_text())
    losses = [each["measured"]["kinds"]["all"]["kl"][0] for each in index]
    assert losses[0] > losses[1] > 0
    picture = (tmp_path / "size-against-loss.svg").read_text()
    assert picture.startswith("<svg")
    told = (tmp_path / "README.md").read_text()
    assert "Measured beside its source" in told
    assert told.endswith("\n\n![Size against loss](size-against-loss.svg)\n")
