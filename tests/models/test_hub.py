from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest
from model_servers import COMMIT, HubServer, finish, sha256

from filbert.core.errors import BadInput, DownloadFailed, FilbertError, HashMismatch, OfflineRefused, UnknownModel
from filbert.models import catalogue, store
from filbert.models.manifest import files_folder, names_folder
from filbert.models.name import parse
from filbert.models.sources.hub import choose, choose_projector
from filbert.models.sources.hub_api import unreachable


@pytest.fixture
def repo(hub: HubServer, tiny: bytes) -> HubServer:
    hub.repos["acme/Tiny-GGUF"] = {
        "README.md": b"# Tiny",
        "Tiny-Q4_K_M.gguf": tiny,
        "Tiny-Q8_0.gguf": tiny + b"\0" * 32,
    }
    hub.licences["acme/Tiny-GGUF"] = "apache-2.0"
    return hub


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match=r"The hub at 127\.0\.0\.1 \(HF_ENDPOINT\) cannot be reached"):
        finish(store.pull("hf:owner/repo:Q4_0"))


def test_a_file_of_a_repository_is_pulled_pinned_and_checked(repo, tiny) -> None:
    model = finish(store.pull("hf:acme/Tiny-GGUF/Tiny-Q4_K_M.gguf"))
    assert model.path.read_bytes() == tiny
    assert (model.sha256, model.revision, model.licence) == (sha256(tiny), COMMIT, "apache-2.0")
    assert store.resolve("hf:acme/Tiny-GGUF/Tiny-Q4_K_M.gguf") == model


def test_a_quantisation_is_found_among_the_files(repo, tiny) -> None:
    model = finish(store.pull("hf:acme/Tiny-GGUF:q4_k_m"))
    assert (model.name, model.path.name) == ("hf:acme/Tiny-GGUF:Q4_K_M", "Tiny-Q4_K_M.gguf")


def test_two_names_of_one_file_fetch_and_keep_it_once(repo, tiny) -> None:
    first = finish(store.pull("hf:acme/Tiny-GGUF:Q4_K_M"))
    before = repo.served
    second = finish(store.pull("hf:acme/Tiny-GGUF/Tiny-Q4_K_M.gguf"))
    assert second.path == first.path
    assert repo.served == before
    assert store.remove(first.name) == 0
    assert store.resolve(second.name).path.read_bytes() == tiny
    assert store.remove(second.name) == len(tiny)
    assert not second.path.exists()


def test_a_quantisation_that_is_not_there_is_answered_with_what_is(repo) -> None:
    with pytest.raises(UnknownModel, match=r"has no Q2_K.*Tiny-Q4_K_M\.gguf, Tiny-Q8_0\.gguf"):
        finish(store.pull("hf:acme/Tiny-GGUF:Q2_K"))


def test_a_name_that_fits_several_files_is_answered_with_all(repo) -> None:
    repo.repos["acme/Tiny-GGUF"]["Other-Q4_K_M.gguf"] = b"GGUF"
    with pytest.raises(UnknownModel, match=r"fits 3 files.*hf:acme/Tiny-GGUF/Tiny-Q4_K_M\.gguf"):
        finish(store.pull("hf:acme/Tiny-GGUF"))


@pytest.mark.parametrize("name", ["hf:acme/Nothing", "hf:acme/Nothing/x.gguf", "hf:acme/Tiny-GGUF/other.gguf"])
def test_a_repository_or_file_that_is_not_there_is_a_sentence(repo, name: str) -> None:
    with pytest.raises(UnknownModel, match="Check the spelling"):
        finish(store.pull(name))


def test_a_gated_repository_says_how_to_get_in_before_a_byte_is_fetched(repo) -> None:
    repo.gated.add("acme/Tiny-GGUF")
    with pytest.raises(DownloadFailed, match=r"gated.*HF_TOKEN"):
        finish(store.pull("hf:acme/Tiny-GGUF:Q4_K_M"))
    assert repo.served == 0


def test_a_token_opens_a_gated_repository(repo, tiny, monkeypatch) -> None:
    repo.gated.add("acme/Tiny-GGUF")
    monkeypatch.setenv("HF_TOKEN", "right")
    model = finish(store.pull("hf:acme/Tiny-GGUF:Q4_K_M"))
    assert model.path.read_bytes() == tiny
    assert not any(b"right" in path.read_bytes() for path in names_folder().iterdir())


def test_a_hub_that_serves_other_bytes_than_it_promised_is_caught(repo) -> None:
    repo.lies["Tiny-Q4_K_M.gguf"] = "a" * 64
    with pytest.raises(HashMismatch):
        finish(store.pull("hf:acme/Tiny-GGUF:Q4_K_M"))
    assert store.list_models() == []


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match="HF_ENDPOINT"):
        finish(store.pull("hf:acme/Tiny-GGUF:Q4_K_M"))


def test_without_a_network_what_works_is_told_and_no_variable_that_nobody_set(monkeypatch) -> None:
    error = httpx.ConnectError("[Errno -2] Name or service not known")
    said = str(unreachable(error))
    assert said.startswith("The hub cannot be reached: no network, or its name is not known here. What works without")
    assert "`filbert chat -m smollm2:135m`" in said and "`filbert import`" in said and "HF_ENDPOINT" not in said
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    assert str(unreachable(error)).startswith("The hub at mirror.invalid (HF_ENDPOINT) cannot be reached: no network")
    assert "refused" in str(unreachable(httpx.ConnectError("[Errno 111] Connection refused")))


def test_a_split_model_is_one_model(hub, split_model) -> None:
    hub.repos["acme/Split"] = {f"Q4_0/{name}": body for name, body in split_model.items()}
    model = finish(store.pull("hf:acme/Split:Q4_0"))
    assert [part.name for part in model.parts] == sorted(split_model)
    assert [part.read_bytes() for part in model.parts] == [split_model[name] for name in sorted(split_model)]
    assert len({part.parent for part in model.parts}) == 1
    assert model.size_bytes == sum(map(len, split_model.values()))
    assert [entry.name for entry in store.list_models()] == ["hf:acme/Split:Q4_0"]
    assert store.remove("hf:acme/Split:Q4_0") == model.size_bytes
    assert not any(part.exists() for part in model.parts)


def test_a_split_model_of_which_a_part_is_missing_is_refused(hub, split_model) -> None:
    names = sorted(split_model)
    hub.repos["acme/Split"] = {name: split_model[name] for name in names[:-1]}
    with pytest.raises(UnknownModel, match=names[-1]):
        finish(store.pull(f"hf:acme/Split/{names[0]}"))


def test_parts_that_do_not_belong_together_never_get_a_name(hub, split_model) -> None:
    names = sorted(split_model)
    hub.repos["acme/Split"] = {**split_model, names[-1]: split_model[names[0]]}
    with pytest.raises(FilbertError):
        finish(store.pull(f"hf:acme/Split/{names[0]}"))
    assert store.list_models() == []
    assert [path for path in files_folder().iterdir() if path.is_dir()] == []


def test_a_model_with_its_projector_is_one_model(hub, vision_model) -> None:
    model_bytes, projector_bytes = vision_model
    hub.repos["acme/Eyes"] = {
        "eyes-Q8_0.gguf": model_bytes,
        "mmproj-eyes-f16.gguf": projector_bytes,
        "mmproj-eyes-f32.gguf": b"never",
    }
    model = finish(store.pull("hf:acme/Eyes:Q8_0"))
    assert model.projector is not None
    assert model.projector.read_bytes() == projector_bytes
    assert model.size_bytes == len(model_bytes) + len(projector_bytes)
    assert store.remove("hf:acme/Eyes:Q8_0") == model.size_bytes
    assert not model.projector.exists()


@pytest.mark.parametrize(
    "path", ["../../evil.gguf", "..\\..\\evil.gguf", "a/..gguf", "sub/\x01evil.gguf", "/etc/evil.gguf", "aux:evil.gguf"]
)
def test_path_traversal_in_a_hubs_file_names_writes_nothing_outside_the_store(hub, tiny, tmp_path, path: str) -> None:
    hub.repos["acme/Evil"] = {path: tiny}
    before = {file for file in tmp_path.rglob("*evil*.gguf*") if files_folder() not in file.parents}
    try:
        model = finish(store.pull("hf:acme/Evil"))
    except FilbertError as error:
        assert str(error)
        assert store.list_models() == []
    else:
        assert model.path.resolve().is_relative_to(files_folder().resolve())
    assert {file for file in tmp_path.rglob("*evil*.gguf*") if files_folder() not in file.parents} == before


def test_localai_file_names_with_separators_are_refused_not_cleaned(hub, tiny) -> None:
    hub.repos["acme/Evil"] = {"..\\..\\evil.gguf": tiny}
    with pytest.raises(BadInput, match="plain file name"):
        finish(store.pull("hf:acme/Evil"))


def test_the_hubs_own_offline_switch_is_a_sentence(hub) -> None:
    code = (
        "from filbert.models import store\n"
        "from filbert.core.errors import OfflineRefused\n"
        "try:\n    list(store.pull('hf:acme/Tiny-GGUF:Q8_0'))\n"
        "except OfflineRefused as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "HF_HUB_OFFLINE" in done.stdout, done.stderr
    assert hub.requests == 0


def test_offline_refuses_a_pull_before_the_hub_is_asked(repo, monkeypatch) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused):
        finish(store.pull("hf:acme/Tiny-GGUF:Q4_K_M"))
    assert repo.requests == 0


@pytest.mark.parametrize("module", ["hub", "hub_api", "hub_search"])
def test_telemetry_is_off_before_the_hubs_client_is_loaded(module: str) -> None:
    code = f"import filbert.models.sources.{module}, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    }
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "True"


@pytest.mark.parametrize(
    ("which", "chosen"),
    [
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("UD-Q4_K_M", "m-UD-Q4_K_M.gguf"),
        ("IQ4_XS", "m.IQ4_XS.gguf"),
        ("BF16", "BF16/m-BF16-00001-of-00002.gguf"),
    ],
)
def test_a_quantisation_is_a_whole_word_of_the_name(which: str, chosen: str) -> None:
    found = ["m-Q4_K_M.gguf", "m-UD-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m.IQ4_XS.gguf", "mmproj-BF16.gguf"]
    found += ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"]
    assert choose(parse(f"hf:o/r:{which}"), found)[0] == chosen
    with pytest.raises(UnknownModel):
        choose(parse("hf:o/r:Q4_K"), found)


def test_the_projector_of_the_models_own_folder_is_preferred() -> None:
    found = ["a/m.gguf", "a/mmproj-q8_0.gguf", "mmproj-f16.gguf", "b/mmproj-f16.gguf"]
    assert choose_projector("a/m.gguf", found) == "a/mmproj-q8_0.gguf"
    assert choose_projector("m.gguf", ["m.gguf", "mmproj-bf16.gguf", "mmproj-f16.gguf"]) == "mmproj-f16.gguf"
    assert choose_projector("a/mmproj-q8_0.gguf", found) is None


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b"3", b'{"id": "a/b", "siblings": 4}', b'{"siblings": [{}]}']
)
def test_an_answer_that_is_no_repository_is_a_sentence(hub, answer: bytes) -> None:
    hub.repos["acme/Odd"], hub.answers["acme/Odd"] = {}, answer
    with pytest.raises(DownloadFailed, match="makes no sense"):
        finish(store.pull("hf:acme/Odd:Q4_0"))


def test_a_catalogue_file_that_changed_upstream_is_refused_whatever_the_hub_says_of_it(hub, tiny) -> None:
    entry = catalogue.find(parse("qwen3-embedding:0.6b"))
    (listed,) = entry.files
    hub.repos["Qwen/Qwen3-Embedding-0.6B-GGUF"] = {listed.name: tiny}
    with pytest.raises(UnknownModel, match=r"no longer has the files of the catalogue.*filbert pull hf:Qwen"):
        finish(store.pull(entry.name))
    hub.lies[listed.name] = listed.sha256
    with pytest.raises(HashMismatch, match="not the file it should be"):
        finish(store.pull(entry.name))
    assert store.list_models() == []
