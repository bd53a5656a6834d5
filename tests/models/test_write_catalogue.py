from __future__ import annotations

import gzip
import json
import runpy
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
TOOL = runpy.run_path(str(CHECKOUT / "tools/write_catalogue.py"))
HASH = "ab" * 32


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Lists of two files of one family, and of one that GPT4All published."""
    gallery = [
        listed("huggingface://owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf", HASH),
        listed("https://huggingface.co/owner/Foo-GGUF/resolve/main/mmproj-F16.gguf", "cd" * 32),
    ]
    template = {
        "model_id": "owner/Bar-GGUF",
        "quantizations": ["Q8_0"],
        "model_file_name_template": "Bar-{quantization}.gguf",
    }
    foo = {
        "name": "foo",
        "context": 4096,
        "languages": ["en"],
        "abilities": ["chat", "vision", "reasoning", "audio"],
        "specs": [{"format": "ggufv2", "size_b": 7, "hub": {"huggingface": template}}],
    }
    gpt4all = {
        "filename": "old.gguf",
        "url": "https://models.example/old.gguf",
        "filesize": "12",
        "parameters": "3 billion",
    }
    write(tmp_path / "localai_gallery.jsonl.gz", gallery)
    write(tmp_path / "xinference_models.jsonl.gz", [foo])
    write(tmp_path / "gpt4all_models3.jsonl", [gpt4all])
    return tmp_path


def listed(uri: str, sha256: str, licence: str = "mit") -> dict[str, object]:
    return {"license": licence, "tags": ["tools"], "files": [{"uri": uri, "sha256": sha256}]}


def write(path: Path, records: list[dict[str, object]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def entry(name: str, chosen: dict[str, object], folder: Path, kind: str = "chat") -> dict[str, object]:
    return TOOL["entry_of"](name, chosen, kind, TOOL["read_lists"](folder)).model_dump(exclude_defaults=True)


def test_an_entry_joins_what_the_lists_say(lists) -> None:
    chosen = {"file": "owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf", "projector": "mmproj-F16.gguf", "family": "foo"}
    assert entry("foo:7b-q4_k_m", chosen, lists) == {
        "name": "foo:7b-q4_k_m",
        "source": "hf:owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf",
        "projector": "hf:owner/Foo-GGUF/mmproj-F16.gguf",
        "licence": "mit",
        "parameters": 7_000_000_000,
        "context": 4096,
        "languages": ("en",),
        "capabilities": ("chat", "thinking", "vision"),
        "files": (
            {"role": "model", "name": "Foo-7B-Q4_K_M.gguf", "sha256": HASH},
            {"role": "projector", "name": "mmproj-F16.gguf", "sha256": "cd" * 32},
        ),
    }


def test_what_no_list_states_is_left_out(lists) -> None:
    assert entry(
        "bar:8b-q8_0", {"file": "owner/Bar-GGUF/Bar-Q8_0.gguf", "family": "foo", "unsure": ["context"]}, lists
    ) == {
        "name": "bar:8b-q8_0",
        "source": "hf:owner/Bar-GGUF/Bar-Q8_0.gguf",
        "languages": ("en",),
        "capabilities": ("chat", "thinking"),
        "files": ({"role": "model", "name": "Bar-Q8_0.gguf"},),
    }
    assert "capabilities" not in entry("old:1b-q4_0", {"file": "old.gguf"}, lists, "complete")


def test_a_file_of_gpt4alls_list_has_its_address_and_bytes(lists) -> None:
    old = entry("old:3b-q4_0", {"file": "old.gguf"}, lists)
    assert (old["source"], old["parameters"]) == ("https://models.example/old.gguf", 3_000_000_000)
    assert old["files"] == ({"role": "model", "name": "old.gguf", "size_bytes": 12},)


def test_two_licences_for_one_file_are_none(lists) -> None:
    uri = "huggingface://owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf"
    write(lists / "localai_gallery.jsonl.gz", [listed(uri, HASH), listed(uri, HASH, "gemma")])
    assert "licence" not in entry("foo:7b-q4_k_m", {"file": "owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf"}, lists)


def test_a_file_with_two_hashes_or_in_no_list_is_refused(lists) -> None:
    uri = "huggingface://owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf"
    write(lists / "localai_gallery.jsonl.gz", [listed(uri, HASH), listed(uri, "ef" * 32)])
    with pytest.raises(SystemExit, match="different hashes"):
        entry("foo:7b-q4_k_m", {"file": "owner/Foo-GGUF/Foo-7B-Q4_K_M.gguf"}, lists)
    with pytest.raises(SystemExit, match="No list has"):
        entry("foo:7b-q8_0", {"file": "owner/Foo-GGUF/Foo-7B-Q8_0.gguf"}, lists)
