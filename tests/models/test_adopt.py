"""Folders laid out as the programs lay them out, with real model files in them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from model_servers import finish, sha256
from other_programs import (
    REGISTRY,
    gpt4all_elsewhere,
    gpt4all_python,
    gpt4all_window,
    hub_cache,
    imported,
    jan,
    jan_old,
    llama_cpp,
    lm_studio,
    lm_studio_old,
    lm_studio_pointed,
    ollama,
    ollama_from_the_hub,
    ollama_home,
    ollama_namespace,
    put,
    tree,
)

import make_tiny
from filbert.core.errors import BadInput, BadModelFile, UnknownModel
from filbert.models import preset, store
from filbert.models.adopt.importing import search, take
from filbert.models.gguf import check_split
from filbert.models.manifest import manifest_file

pytestmark = pytest.mark.usefixtures("person")
PROGRAMS = [
    (gpt4all_python, "GPT4All", "tiny-chat:1b-q4_0"), (gpt4all_window, "GPT4All", "tiny-chat:1b-q4_0"),
    (gpt4all_elsewhere, "GPT4All", "tiny-chat:1b-q4_0"), (lm_studio, "LM Studio", "tiny-chat:1b-q4_0"),
    (lm_studio_pointed, "LM Studio", "tiny-chat:1b-q4_0"), (lm_studio_old, "LM Studio", "tiny-chat:1b-q4_0"),
    (ollama_home, "Ollama", "tiny-chat:1b"), (ollama_namespace, "Ollama", "somebody-tiny-chat:1b"),
    (ollama_from_the_hub, "Ollama", "hf:Maker/Tiny-GGUF:Q4_0"), (hub_cache, "Hugging Face", "hf:Maker/Tiny-GGUF/tiny.gguf"),
    (llama_cpp, "llama.cpp", "hf:Maker/Tiny-GGUF/tiny.gguf"), (jan, "Jan", "tiny-chat:1b"), (jan_old, "Jan", "tiny-chat:1b-q4_0"),
]  # fmt: skip
Layout = Callable[[Path, bytes], Path]


@pytest.mark.parametrize(("layout", "program", "name"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_model_of_a_program_is_used_where_it_lies_and_never_touched(
    person: Path, tiny: bytes, layout: Layout, program: str, name: str
) -> None:
    path = layout(person, tiny)
    before = tree(person)
    (taken,) = imported()
    assert (taken.state, taken.program, taken.name, taken.size_bytes) == ("new", program, name, len(tiny))
    model = store.resolve(name)
    assert store.list_models() == [model]
    assert (model.path, model.sha256) == (path, sha256(tiny))
    assert store.describe(model, check_split(model.parts))["kind"] == "language"
    assert [each.state for each in finish(search())] == ["here"]
    assert imported() == []
    assert store.linked(name) == [path]
    assert store.remove(name) == 0
    assert store.clean(0) == 0
    assert store.find(name) is None
    assert tree(person) == before


def test_ollama_elsewhere_is_found_by_its_variable(person, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "big disk"))
    ollama(tmp_path / "big disk", f"{REGISTRY}/tiny/latest", model=tiny)
    assert [each.name for each in imported()] == ["tiny:latest"]
    assert store.resolve("tiny").name == "tiny:latest"


def test_ollama_two_tags_of_one_blob_are_two_names(person, tiny) -> None:
    for tag in ("1b", "latest"):
        ollama(person / ".ollama/models", f"{REGISTRY}/tiny/{tag}", model=tiny)
    assert [each.name for each in imported()] == ["tiny:1b", "tiny:latest"]
    store.remove("tiny:latest")
    assert store.resolve("tiny:1b").path.read_bytes() == tiny


def test_ollama_a_tag_that_was_pulled_anew_keeps_its_name(person, tiny, bulky) -> None:
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny)
    imported()
    shutil.rmtree(person / ".ollama/models/blobs")
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=bulky)
    assert [(each.state, each.name) for each in imported()] == [("changed", "tiny:1b")]
    assert store.resolve("tiny:1b").sha256 == sha256(bulky)


def test_ollama_parameters_and_system_message_come_along(person, tiny) -> None:
    params = {"temperature": 0.3, "top_k": 40, "top_p": 7, "stop": ["<|end|>"], "num_ctx": 2048, "mirostat": 1}
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b",
           model=tiny, params=json.dumps(params).encode(), system=b"Be brief.")  # fmt: skip
    imported()
    kept = preset.kept("tiny:1b")
    assert kept and (kept.of, kept.system) == ("tiny:1b", "Be brief.")
    assert kept.sampling == {"temperature": 0.3, "stop": ["<|end|>"]}
    store.remove("tiny:1b")
    assert preset.kept("tiny:1b") is None


def test_ollama_adapter_upon_a_model_is_left_out_and_told(person, tiny) -> None:
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny, adapter=b"any")
    assert [each.why for each in imported()] == ["Its adapter is left out."]


def test_a_vision_model_comes_with_its_projector(person, vision_model) -> None:
    model, projector = vision_model
    ollama(person / ".ollama/models", f"{REGISTRY}/eyes/1b", model=model, projector=projector)
    folder = person / ".lmstudio/models/maker/eyes-GGUF"
    for name, data in (("eyes-Q8_0.gguf", model), ("eyes-Q4_0.gguf", model), ("mmproj-eyes-f16.gguf", projector)):
        put(folder / name, data)
    names = [each.name for each in imported()]
    assert names == ["eyes:1b", "eyes-q4_0", "eyes-q8_0"]
    sizes = [store.resolve(name).size_bytes for name in names]
    assert sizes == [len(model) + len(projector)] * 3
    assert store.resolve("eyes-q4_0").projector == folder / "mmproj-eyes-f16.gguf"


def test_a_projector_among_several_models_of_a_flat_folder_is_nobodys(person, vision_model, tiny) -> None:
    folder = person / ".cache/gpt4all"
    for name, data in (("eyes.gguf", vision_model[0]), ("other.gguf", tiny), ("mmproj-eyes.gguf", vision_model[1])):
        put(folder / name, data)
    found = finish(search())
    assert [(each.state, Path(each.what).name) for each in found] == [
        ("new", "eyes.gguf"), ("new", "other.gguf"), ("refused", "mmproj-eyes.gguf"),
    ]  # fmt: skip
    take(found)
    assert store.resolve("eyes").projector is None


def test_a_split_model_is_one_model_and_incomplete_without_a_part(person, split_model) -> None:
    folder = person / ".lmstudio/models/maker/split-GGUF"
    for name, data in split_model.items():
        put(folder / name, data)
    (taken,) = imported()
    assert [part.name for part in store.resolve(taken.name).parts] == sorted(split_model)
    store.remove(taken.name)
    (folder / sorted(split_model)[0]).unlink()
    (left,) = finish(search())
    assert (left.state, "is not beside it" in left.why) == ("refused", True)


def test_an_adapter_is_imported_and_listed_as_one(person, tmp_path) -> None:
    path = make_tiny.adapter(tmp_path / "my-adapter.gguf")
    (taken,) = imported(path)
    assert (taken.name, taken.kind, store.resolve("my-adapter").kind) == ("my-adapter", "adapter", "adapter")


def test_an_adapter_can_be_pulled_and_is_known_for_one(origin, tmp_path) -> None:
    url = origin.add("/my-adapter.gguf", make_tiny.adapter(tmp_path / "my-adapter.gguf").read_bytes())
    assert finish(store.pull(url)).kind == "adapter"
    assert [model.kind for model in store.list_models()] == ["adapter"]


# --- what a person names ---


def test_a_file_gets_the_name_that_a_person_gives_it_beside_another(tmp_path, tiny) -> None:
    path = put(tmp_path / "files/tiny.gguf", tiny)
    assert [each.name for each in imported(path)] == ["tiny"]
    assert [each.name for each in imported(path, name="My-Model:1B")] == ["my-model:1b"]
    assert finish(search((path,), "my-model:1b"))[0].state == "here"
    assert {model.name for model in store.list_models()} == {"tiny", "my-model:1b"}
    store.remove("tiny")
    assert store.resolve("my-model").path == path


def test_a_name_that_means_another_model_is_refused(tmp_path, tiny) -> None:
    imported(put(tmp_path / "one/tiny.gguf", tiny), name="mine:1b-q4_0")
    other = put(tmp_path / "two/tiny.gguf", tiny)
    for name in ("mine:1b-q4_0", "mine:1b", "mine"):
        with pytest.raises(BadInput, match="means another model"):
            finish(search((other,), name))
    for name in ("./x.gguf", "hf:a/b", "a b"):
        with pytest.raises(BadInput):
            finish(search((other,), name))
    assert store.resolve("mine").path == tmp_path / "one/tiny.gguf"


def test_a_name_that_cannot_be_one_is_told_one_that_can(tmp_path, tiny) -> None:
    with pytest.raises(BadInput, match=r"'My Model' cannot be the name of a file\. Take for example my-model\."):
        finish(search((put(tmp_path / "tiny.gguf", tiny),), "My Model"))


def test_a_path_with_dots_is_shown_and_kept_without(tmp_path, tiny, monkeypatch) -> None:
    path = put(tmp_path / "one/tiny.gguf", tiny)
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    (taken,) = imported(Path("../one/./tiny.gguf"))
    assert taken.what == str(path) and store.resolve(taken.name).path == path


def test_dots_behind_a_link_lead_to_what_is_there(tmp_path, tiny) -> None:
    put(tmp_path / "one/tiny.gguf", tiny)
    (tmp_path / "one/below").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one/below")
    (taken,) = imported(tmp_path / "link/../tiny.gguf")
    assert store.resolve(taken.name).path.samefile(tmp_path / "one/tiny.gguf")


def test_a_file_of_llama_cpps_cache_without_a_record_is_called_after_its_repository(person, tiny) -> None:
    put(person / ".cache/llama.cpp/ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf", tiny)
    assert [each.name for each in imported()] == ["hf:ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf"]


def test_a_file_of_the_hubs_cache_does_not_get_the_name_of_a_model_of_ollama(person, tiny) -> None:
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny)
    imported()
    hub_cache(person, tiny)
    assert [each.name for each in imported()] == ["hf:Maker/Tiny-GGUF/tiny.gguf"]


def test_two_files_of_one_name_get_two_names(tmp_path, tiny) -> None:
    paths = [put(tmp_path / folder / "tiny.gguf", tiny) for folder in ("one", "two", "three")]
    assert [each.name for each in imported(*paths)] == ["tiny", "tiny-file", "tiny-file-2"]


def test_a_folder_is_searched_and_ollamas_own_folder_understood(tmp_path, tiny) -> None:
    put(tmp_path / "files/deep/er/tiny.gguf", tiny)
    put(tmp_path / "files/note.txt", "hi")
    ollama(tmp_path / "blobs", f"{REGISTRY}/tiny/1b", model=tiny)
    assert [each.name for each in imported(tmp_path / "files")] == ["tiny"]
    assert [each.name for each in imported(tmp_path / "blobs")] == ["tiny:1b"]


def test_a_path_without_a_model_is_told(tmp_path) -> None:
    put(tmp_path / "note.txt", "hi")
    with pytest.raises(BadInput, match="There is no model in"):
        finish(search((tmp_path,)))
    with pytest.raises(UnknownModel, match="no model file at"):
        finish(search((tmp_path / "missing.gguf",)))
    with pytest.raises(BadModelFile, match="not a GGUF file"):
        finish(search((tmp_path / "note.txt",)))


# --- behind our back ---


@pytest.mark.parametrize("harm", ["gone", "shorter", "other", "folder", "pipe"])
def test_a_model_removed_or_changed_behind_our_back_is_told_and_breaks_nothing(person, tiny, bulky, harm: str) -> None:
    path = gpt4all_python(person, tiny)
    put(person / ".cache/gpt4all/whole.gguf", tiny)
    imported()
    path.unlink()
    if harm == "shorter":
        path.write_bytes(tiny[:-1])
    elif harm == "other":
        path.write_bytes(bulky)
    elif harm == "folder":
        path.mkdir()
    elif harm == "pipe":
        os.mkfifo(path)
    assert [model.name for model in store.list_models()] == ["whole"]
    (told,) = store.damaged()
    assert str(told).startswith("tiny-chat:1b-q4_0 cannot be used.") and "filbert rm" in str(told)
    with pytest.raises(BadModelFile, match=r"tiny-chat:1b-q4_0 cannot be used"):
        store.resolve("tiny-chat:1b-q4_0")
    store.remove("tiny-chat:1b-q4_0")
    assert store.damaged() == []
    assert path.exists() == (harm != "gone")


def test_a_file_that_changed_is_taken_anew_under_its_name(person, tiny, bulky) -> None:
    path = gpt4all_python(person, tiny)
    imported()
    path.write_bytes(bulky)
    (taken,) = imported()
    assert (taken.state, taken.name) == ("changed", "tiny-chat:1b-q4_0")
    assert store.resolve(taken.name).sha256 == sha256(bulky)


def test_a_hash_is_read_when_it_is_asked_for_and_kept(person, tiny) -> None:
    path = gpt4all_python(person, tiny)
    imported()
    assert store.resolve("tiny-chat:1b").known_sha256 is None
    assert store.resolve("tiny-chat:1b").sha256 == sha256(tiny)
    assert store.resolve("tiny-chat:1b").known_sha256 == sha256(tiny)
    assert path.read_bytes() == tiny


# --- the store ---


def test_what_was_pulled_is_known_again_by_its_hash_and_removed_apart(origin, person, tiny) -> None:
    """The digest of a linked file is no folder of ours that must stay."""
    pulled = finish(store.pull(origin.add("/tiny.gguf", tiny)))
    path = hub_cache(person, tiny)
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny)
    assert [each.name for each in imported()] == ["tiny:1b"]
    assert store.remove(pulled.name) == len(tiny)
    assert not pulled.path.exists()
    assert store.resolve("tiny:1b").sha256 == sha256(tiny)
    assert path.exists()


def test_two_copies_of_one_model_keep_their_names_and_stand_in_for_each_other(person, tiny) -> None:
    cache = hub_cache(person, tiny)
    other = person / ".cache/huggingface/hub/models--Other--Tiny-GGUF"
    shutil.copytree(cache.parents[2], other, symlinks=True)
    assert [each.name for each in imported()] == ["hf:Maker/Tiny-GGUF/tiny.gguf", "hf:Other/Tiny-GGUF/tiny.gguf"]
    assert [each.state for each in finish(search())] == ["here", "here"]
    store.remove("hf:Other/Tiny-GGUF/tiny.gguf")
    shutil.rmtree(cache.parents[2])
    assert [(each.state, each.name) for each in imported()] == [("changed", "hf:Maker/Tiny-GGUF/tiny.gguf")]
    assert store.resolve("hf:Maker/Tiny-GGUF/tiny.gguf").path.is_relative_to(other)


def test_a_projector_that_came_later_is_taken_up(person, vision_model) -> None:
    folder = person / ".lmstudio/models/maker/eyes-GGUF"
    put(folder / "eyes.gguf", vision_model[0])
    imported()
    put(folder / "mmproj-eyes.gguf", vision_model[1])
    imported()
    assert store.resolve("eyes").projector == folder / "mmproj-eyes.gguf"


def test_a_store_that_is_a_link_to_another_disk_adopts_and_removes_as_any(home, person, tiny, tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    home.mkdir()
    (home / "models").symlink_to(tmp_path / "disk")
    path = gpt4all_python(person, tiny)
    imported()
    assert store.resolve("tiny-chat").path == path
    store.remove("tiny-chat")
    assert path.exists()


def test_a_link_to_a_model_keeps_its_target_when_it_is_removed(person, tiny, tmp_path) -> None:
    target = put(tmp_path / "disk/tiny.gguf", tiny)
    link = person / ".cache/gpt4all/linked.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    imported()
    store.remove("linked")
    assert link.is_symlink() and target.read_bytes() == tiny


def test_two_programs_that_share_a_file_give_it_one_name(person, tiny) -> None:
    path = lm_studio(person, tiny)
    shared = person / ".cache/gpt4all"
    shared.parent.mkdir(parents=True)
    shared.symlink_to(path.parent)
    assert len(imported()) == 1
    shutil.rmtree(person / ".lmstudio")
    assert len(store.damaged()) == 1


def test_the_record_of_a_linked_file_holds_no_copy(person, tiny) -> None:
    path = gpt4all_python(person, tiny)
    imported()
    record = json.loads(manifest_file("tiny-chat:1b-q4_0").read_bytes())
    assert record["files"][0]["path"] == str(path)
    assert not (manifest_file("x").parent.parent / "files").exists()


def test_progress_tells_the_headers_that_were_read(person, tiny) -> None:
    gpt4all_python(person, tiny)
    steps = []
    finish(search(), steps.append)
    assert [(each.done, each.total) for each in steps if each.step == "reading the headers"] == [(1, 1)]


def test_two_imports_at_once_give_a_model_one_name(person, tiny) -> None:
    for name in ("one", "two"):
        ollama(person / ".ollama/models", f"{REGISTRY}/{name}/1b", model=tiny)
    quick, slow = search(), search()
    while next(slow).step != "reading the headers":  # it has looked at what is installed
        pass
    assert [each.name for each in take(finish(quick))] == ["one:1b", "two:1b"]
    assert take(finish(slow)) == []
    assert [model.name for model in store.list_models()] == ["one:1b", "two:1b"]
