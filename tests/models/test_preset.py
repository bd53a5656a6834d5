"""What is kept with a model: records, names of one's own, and which value counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile, BadSetting, UnknownModel
from filbert.core.settings import configured
from filbert.engine.load_options import LoadOptions
from filbert.engine.sampling import Sampling
from filbert.models import catalogue, preset, store
from filbert.models.preset import Example, ModelGone, Preset, preset_file, stand_ins, with_preset

STARTER = "smollm2:135m-q4_1"


def keep(name: str, of: str = STARTER, **values: Any) -> Preset:
    kept = Preset(name=name, of=of, **values)
    with preset.changing(name) as write:
        write(kept)
    return kept


def test_a_preset_stands_between_the_file_and_the_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Preset(name="mine", of=STARTER, load={"context": 4096}, sampling={"temperature": 0.5})

    def context(**given: Any) -> int | None:
        return with_preset(configured(LoadOptions, given), kept).context

    assert context() == 4096
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text("[load]\ncontext = 2048\nthreads = 1\n")
    assert context() == 4096
    assert with_preset(configured(LoadOptions), kept).threads == 1
    monkeypatch.setenv("FILBERT_LOAD_CONTEXT", "1024")
    assert context() == 1024
    assert context(context=512) == 512
    assert with_preset(configured(Sampling, {"temperature": 1}), kept).temperature == 1


def test_a_flag_that_says_what_the_file_says_still_beats_the_preset(home: Path) -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text("[load]\ncontext = 2048\n")
    kept = Preset(name="mine", of=STARTER, load={"context": 4096})
    assert with_preset(configured(LoadOptions, {"context": 2048}), kept).context == 2048


def test_what_a_record_says_wrong_is_told_with_the_way_to_mend_it() -> None:
    kept = Preset(name="mine", of=STARTER, sampling={"temperature": "hot"})
    with pytest.raises(BadSetting, match=r"comes from the preset mine.*`filbert set mine temperature=`"):
        with_preset(configured(Sampling), kept)
    later = Preset(name="mine", of=STARTER, sampling={"warmth": 3})
    with pytest.raises(BadSetting, match=r"There is no setting sampling.warmth. It comes from the preset mine"):
        with_preset(configured(Sampling), later)


def test_a_name_of_ones_own_finds_the_model_with_what_is_kept(stocked: Path) -> None:
    keep("gpt-4o", of="smollm2:135m", load={"context": 512}, system="Be brief.")
    found = store.resolve("GPT-4o")
    assert (found.name, found.path) == ("gpt-4o", store.resolve(STARTER).path)
    assert found.preset is not None
    assert (found.preset.stands_for, found.preset.load) == ("smollm2:135m", {"context": 512})
    assert store.installed("gpt-4o") == found
    assert [model.name for model in store.list_models()] == ["gpt-4o", STARTER]


def test_defaults_of_a_model_are_found_under_every_spelling_of_it(stocked: Path) -> None:
    keep(STARTER, sampling={"top_k": 3})
    for name in (STARTER, "smollm2:135m", "smollm2"):
        found = store.resolve(name)
        assert found.preset is not None and found.preset.sampling == {"top_k": 3}
        assert not found.preset.is_stand_in


def test_a_preset_of_a_preset_adds_to_it(stocked: Path) -> None:
    keep(STARTER, sampling={"top_k": 3, "top_p": 0.5}, system="one")
    keep("first", sampling={"top_k": 4}, examples=(Example(role="user", content="hi"),))
    keep("second", of="first", load={"context": 512}, system="two")
    found = store.resolve("second").preset
    assert found is not None
    assert found.sampling == {"top_k": 4, "top_p": 0.5}
    assert (found.system, found.load, len(found.examples)) == ("two", {"context": 512}, 1)


def test_a_loop_is_refused_where_it_is_used_and_listed(stocked: Path) -> None:
    keep("one", of="two")
    keep("two", of="one")
    with pytest.raises(BadInput, match=r"one stands for itself\. one → two → one"):
        store.resolve("one")
    models, errors = store.whole_and_damaged()
    assert [model.name for model in models] == [STARTER]
    assert len(errors) == 2


def test_a_name_whose_model_is_gone_says_so(stocked: Path) -> None:
    keep("mine", of="smollm2:135m")
    store.remove("smollm2:135m")
    with pytest.raises(UnknownModel, match=r"mine stands for smollm2:135m, which is not here any more") as caught:
        store.find("mine")
    assert caught.value.do == "`filbert pull smollm2:135m` gets it again, or `filbert rm mine` takes the name away."
    assert [str(error).split(",")[0] for error in store.damaged()] == ["mine stands for smollm2:135m"]


@pytest.mark.parametrize(
    ("of", "back"),
    [
        ("hf:owner/repo:Q4_K_M", "`filbert pull hf:owner/repo:Q4_K_M` gets it again"),
        ("qwen3:4b-q4_k_m", "`filbert pull qwen3:4b` gets it again"),
        ("imported:1b", "`filbert set mine of=MODEL` names another"),
        ("/nowhere/x.gguf", "`filbert set mine of=MODEL` names another"),
        ("smollm2:135m+no-adapter", "`filbert set mine of=MODEL` names another"),
    ],
)
def test_a_name_tells_how_what_it_stands_for_comes_back(stocked: Path, of: str, back: str) -> None:
    keep("mine", of=of)
    keep("yours", of="mine")
    for name in ("mine", "yours"):
        with pytest.raises(ModelGone) as caught:
            store.find(name)
        assert caught.value.do == f"{back}, or `filbert rm {name}` takes the name away."


def test_what_stands_on_a_model_is_known_through_other_names(stocked: Path, tmp_path: Path) -> None:
    keep("one", of=STARTER)
    keep("two", of="one")
    keep("adapted", of=f"two+{tmp_path}/a.gguf")
    keep("other", of=f"{tmp_path}/x.gguf")
    assert store.standing_on("smollm2:135m") == ["one", "two", "adapted"]
    assert store.standing_on("one") == ["two", "adapted"]
    assert store.standing_on("other") == store.standing_on("nothing") == []


def test_a_name_whose_model_is_damaged_is_told_beside_it(stocked: Path) -> None:
    keep("mine", of="smollm2:135m")
    store.resolve(STARTER).path.unlink()
    told = [str(error) for error in store.damaged()]
    assert len(told) == len(set(told)) == 2
    assert "mine stands for smollm2:135m, which is damaged. Mend that one first." in told


def test_removing_a_name_of_ones_own_leaves_its_model_and_removing_a_model_takes_its_defaults(stocked: Path) -> None:
    keep("mine")
    keep(STARTER, system="one")
    assert store.remove("mine") == 0
    assert not preset_file("mine").exists()
    assert store.resolve(STARTER).preset
    assert store.remove(STARTER) > 0
    assert not preset_file(STARTER).exists()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"name": 3}', b"\xff\xfe", b'{"name": "other", "of": "other"}'])
def test_a_damaged_record_is_a_sentence_and_can_be_removed(stocked: Path, damage: bytes) -> None:
    keep("mine")
    preset_file("mine").write_bytes(damage)
    with pytest.raises(BadModelFile, match=r"record .* of a preset is damaged"):
        store.find("mine")
    models, errors = store.whole_and_damaged()
    assert [model.name for model in models] == [STARTER]
    assert len(errors) == 1
    store.remove("mine")
    assert stand_ins() == ([], [])


def test_an_installed_model_comes_before_a_name_of_ones_own(stocked: Path) -> None:
    preset_file(STARTER).parent.mkdir(parents=True)
    preset_file(STARTER).write_text(Preset(name=STARTER, of="./other.gguf").model_dump_json())
    found = store.resolve(STARTER)
    assert (found.name, found.preset) == (STARTER, None)
    models, errors = store.whole_and_damaged()
    assert [model.name for model in models] == [STARTER]
    assert [str(error) for error in errors] == [
        f"{STARTER} is an installed model now. It no longer stands for other.gguf. "
        f"`filbert set {STARTER} --clear` forgets that."
    ]


def test_a_base_with_adapters_is_named_by_its_parts(stocked: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "my-lora.gguf"
    adapter.write_bytes(b"GGUF")
    found = store.resolve(f"smollm2:135m+{adapter}")
    assert (found.name, found.adapters) == (f"{STARTER}+my-lora", (adapter,))
    assert found.size_bytes == store.resolve(STARTER).size_bytes + 4
    with pytest.raises(UnknownModel, match="There is no adapter other"):
        store.resolve("smollm2:135m+other")
    with pytest.raises(UnknownModel, match="There is no model nothing-here"):
        store.resolve("nothing-here+other")


def test_who_may_name_no_path_may_not_do_so_behind_a_plus(stocked: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "my-lora.gguf"
    adapter.write_bytes(b"GGUF")
    with pytest.raises(UnknownModel):
        store.installed(f"smollm2:135m+{adapter}")
    keep("mine", of=f"smollm2:135m+{adapter}")
    assert store.installed("mine").adapters == (adapter,)
    shown = store.installed("mine").preset
    assert shown is not None and shown.stands_for == "smollm2:135m+my-lora.gguf"


def test_a_file_with_a_plus_in_its_name_is_one_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a+b.gguf", "a.gguf+b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
        assert store.resolve(name).path == tmp_path / name


def test_a_name_of_the_catalogue_is_not_free(home: Path) -> None:
    with pytest.raises(BadInput, match="is a model of the catalogue"):
        preset.need_free(catalogue.entries()[1].short)
    assert preset.need_free("GPT-4o") == "gpt-4o"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("smollm2:135m", "is an installed model"),
        ("smollm2", "is an installed model"),
        ("../mine", "cannot be a name of your own"),
        ("mine.gguf", "cannot be a name of your own"),
        ("hf:owner/repo", "cannot be a name of your own"),
        ("my name", "is no model name"),
        ("mine\x1b[2J", "is no model name"),
    ],
)
def test_a_name_that_means_something_else_is_not_free(stocked: Path, name: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        preset.need_free(name)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_lies_in_the_current_folder_hides_no_name(stocked: Path, monkeypatch, tmp_path: Path, make: Any) -> None:
    keep("mine", system="Be brief.")
    keep(STARTER, system="Be long.")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", STARTER):
        make(tmp_path / name)
    assert [store.resolve(name).preset.system for name in ("mine", STARTER)] == ["Be brief.", "Be long."]
