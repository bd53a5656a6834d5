"""A repository of safetensors as a folder, by the hub's own client, from a server that speaks its protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_servers import COMMIT, HubServer

from filbert.core.errors import BadInput, DownloadFailed, HashMismatch, OfflineRefused, UnknownModel
from filbert.core.jobs import finish
from filbert.models.download_options import DownloadOptions
from filbert.models.name import parse
from filbert.models.sources.hub_folder import fetched
from filbert.models.weights_folder import Stem, names_in

REPOSITORY = {
    "config.json": b'{"a": 1}',
    "model-00001-of-00002.safetensors": b"one",
    "model-00002-of-00002.safetensors": b"two",
    "model.safetensors.index.json": b"{}",
    "consolidated.safetensors": b"the same once more",
    "tokenizer.model": b"words",
    "1_Pooling/config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickled",
    "onnx/model.onnx": b"of no use",
}
NAME = parse("hf:owner/tiny")


def fetch(options: DownloadOptions, stem: Stem | None = "model") -> Path:
    return finish(fetched(NAME, options, stem))


def test_what_a_converter_may_see_is_fetched_once(hub: HubServer, options: DownloadOptions) -> None:
    hub.repos["owner/tiny"] = REPOSITORY
    folder = fetch(options)
    assert folder.name == "tiny", "a model without a name gets the folder's"
    left = {"consolidated.safetensors", "modeling_evil.py", "pytorch_model.bin", "onnx/model.onnx"}
    assert {name: (folder / name).read_bytes() for name in names_in(folder) if name != ".complete"} == {
        name: body for name, body in REPOSITORY.items() if name not in left
    }
    assert (folder / ".complete").read_text() == COMMIT
    asked = hub.requests
    assert fetch(options) == fetch(options, None) == folder
    assert hub.requests == asked, "the second time nothing is asked"


def test_of_a_base_all_but_the_weights(hub: HubServer, options: DownloadOptions) -> None:
    hub.repos["owner/tiny"] = REPOSITORY
    folder = fetch(options, None)
    assert not list(folder.rglob("*.safetensors"))
    assert (folder / "tokenizer.model").exists()
    assert (fetch(options) / "model-00001-of-00002.safetensors").exists(), "they come when they are needed"


def test_what_is_pickled_is_refused_before_anything_is_fetched(hub: HubServer, options: DownloadOptions) -> None:
    hub.repos["owner/tiny"] = {"config.json": b"{}", "pytorch_model.bin": b"pickled"}
    with pytest.raises(BadInput, match=r"pytorch_model.bin is pickled"):
        fetch(options)
    assert hub.served == 0


def test_a_repository_of_which_a_file_is_not_what_was_told_is_none(hub: HubServer, options: DownloadOptions) -> None:
    hub.repos["owner/tiny"] = REPOSITORY
    hub.lies["model-00002-of-00002.safetensors"] = "0" * 64
    for _ in range(2):
        with pytest.raises(HashMismatch):
            fetch(options)
    hub.lies.clear()
    assert fetch(options)


def test_what_the_hub_does_not_have_or_does_not_give(
    hub: HubServer, options: DownloadOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownModel, match=r"The hub has no owner/tiny"):
        fetch(options)
    hub.repos["owner/tiny"] = REPOSITORY
    hub.gated.add("owner/tiny")
    with pytest.raises(DownloadFailed, match=r"is gated"):
        fetch(options)
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused, match=r"hf:owner/other is not on this machine"):
        finish(fetched(parse("hf:owner/other"), options))


def test_names_that_are_none_here_are_left(hub: HubServer, options: DownloadOptions) -> None:
    hub.repos["owner/tiny"] = {
        "config.json": b"{}",
        "model.safetensors": b"",
        "../evil.json": b"{}",
        "tokenizer/../../evil.json": b"{}",
        "un nom étrange.json": b"{}",
    }
    folder = fetch(options)
    assert sorted(names_in(folder)) == [".complete", "config.json", "model.safetensors"]
