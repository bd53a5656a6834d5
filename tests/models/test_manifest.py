from __future__ import annotations

from pathlib import Path

import pytest

from filbert.core.errors import BadModelFile
from filbert.models.manifest import (
    Kept,
    Manifest,
    files_folder,
    installed_names,
    manifest_file,
    manifest_files,
    manifest_of,
    names_folder,
    read_manifest,
)
from filbert.models.name import parse


def write(name: str) -> Path:
    kept = Kept(role="model", name="x.gguf", size_bytes=5, sha256="a" * 64, folder="b" * 64)
    manifest = Manifest(
        name=name, source="", revision="", licence="", pulled="2026-11-24T08:00:00+00:00", files=(kept,)
    )
    names_folder().mkdir(parents=True, exist_ok=True)
    manifest_file(name).write_text(manifest.model_dump_json())
    return manifest_file(name)


def test_a_manifest_is_read_as_it_was_written() -> None:
    read = read_manifest(write("hf:owner/repo:Q4_0"))
    assert read.name == "hf:owner/repo:Q4_0"
    assert read.files[0].path == files_folder() / ("b" * 64) / "x.gguf"


def test_names_that_look_alike_have_manifests_of_their_own() -> None:
    files = {manifest_file(name) for name in ("hf:a/b", "hf:a-b", "hf-a-b", "HF:a/b", "x" * 300, "x" * 301)}
    assert len(files) == 6
    assert all(file.parent == names_folder() and len(file.name) < 80 for file in files)


def test_what_is_cut_or_of_another_name_is_told_and_no_installed_name() -> None:
    write("hf:owner/whole")
    cut, foreign = write("hf:owner/cut"), write("hf:owner/foreign")
    cut.write_bytes(cut.read_bytes()[:30])
    foreign.rename(manifest_file("hf:owner/other"))
    for path in (cut, manifest_file("hf:owner/other")):
        with pytest.raises(BadModelFile, match=f"The record {path.name} in the store is damaged"):
            read_manifest(path)
    assert len(manifest_files()) == 3
    assert installed_names() == ["hf:owner/whole"]


@pytest.mark.parametrize("no_time", ["x", "0001-01-01T00:00:00"])
def test_a_record_that_was_pulled_at_no_time_is_damaged(no_time: str) -> None:
    path = write("hf:owner/whole")
    path.write_text(path.read_text().replace("2026-11-24T08:00:00+00:00", no_time))
    with pytest.raises(BadModelFile, match="is damaged"):
        read_manifest(path)


def test_a_family_and_size_means_the_only_quantisation_that_is_here() -> None:
    only = write("foo:1b-q4_0")
    assert manifest_of(parse("foo:1b")) == only
    write("foo:1b-q8_0")
    assert manifest_of(parse("foo:1b")) is None
    assert manifest_of(parse("foo:1b-q4_0")) == only


def test_a_family_means_the_only_model_of_it_that_is_here() -> None:
    only = write("foo:1b-q4_0")
    assert manifest_of(parse("foo")) == only
    assert manifest_of(parse("fo")) is None
    write("foo:2b-q4_0")
    assert manifest_of(parse("foo")) is None
