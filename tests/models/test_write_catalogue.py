from __future__ import annotations

import gzip
import json
import os
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from filbert.models import catalogue

CHECKOUT = Path(__file__).parent.parent.parent
TOOL = runpy.run_path(str(CHECKOUT / "tools/write_catalogue.py"))
HASH = "ab" * 32
SAMPLED = {
    "chat": [
        "smollm3:3b-q4_k_m",
        "deepseek-r1:qwen-1.5b-q4_0",
        "deepseek-r1:qwen-1.5b-q4_k_m",
        "gpt-oss:120b-mxfp4",
        "qwen3.5:0.8b-q4_k_m",
        "qwen2.5-coder:7b-q4_0",
        "llama3.2:1b-q4_0",
        "gemma3:270m-q4_0",
    ],
    "embed": ["qwen3-embedding:0.6b-q8_0", "minilm:l6-v2-f16", "bge:m3-q8_0"],
    "rerank": ["bge-reranker:v2-m3-q8_0", "jina-reranker:v1-tiny-en-f16"],
}


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
        "md5sum": "0D" * 16,
    }
    write(tmp_path / "localai_gallery.jsonl.gz", gallery)
    write(tmp_path / "xinference_models.jsonl.gz", [foo])
    write(tmp_path / "gpt4all_models3.jsonl", [gpt4all])
    return tmp_path


def listed(uri: str, sha256: str, licence: str = "mit", **more: object) -> dict[str, object]:
    return {"license": licence, "tags": ["tools"], "files": [{"uri": uri, "sha256": sha256, **more}]}


def write(path: Path, records: list[dict[str, object]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def entry(name: str, chosen: dict[str, object], folder: Path, kind: str = "chat") -> dict[str, object]:
    lists = TOOL["read_lists"](folder)
    return TOOL["entry_of"](name, chosen, kind, lists, {"old": "Them", "older": "They"}).model_dump(
        exclude_defaults=True
    )


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
    assert old["files"] == ({"role": "model", "name": "old.gguf", "md5": "0d" * 16, "size_bytes": 12},)
    assert old["maker"] == "Them"


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


def test_an_md5_is_left_out_where_a_sha256_is_known(lists) -> None:
    write(lists / "localai_gallery.jsonl.gz", [listed("https://models.example/old.gguf", HASH)])
    assert entry("old:3b-q4_0", {"file": "old.gguf"}, lists)["files"] == (
        {"role": "model", "name": "old.gguf", "sha256": HASH, "size_bytes": 12},
    )


def test_two_sizes_for_one_file_are_refused(lists) -> None:
    write(lists / "localai_gallery.jsonl.gz", [listed("https://models.example/old.gguf", HASH, size_bytes=13)])
    with pytest.raises(SystemExit, match="different sizes: 12, 13"):
        entry("old:3b-q4_0", {"file": "old.gguf"}, lists)


def test_two_md5s_for_one_file_are_refused(lists) -> None:
    old = {
        "filename": "old.gguf",
        "url": "https://models.example/old.gguf",
        "filesize": "12",
        "parameters": "3 billion",
    }
    write(lists / "gpt4all_models3.jsonl", [{**old, "md5sum": "0d" * 16}, {**old, "md5sum": "1d" * 16}])
    with pytest.raises(SystemExit, match="different hashes"):
        entry("old:3b-q4_0", {"file": "old.gguf"}, lists)


def test_a_size_on_which_list_and_name_disagree_is_left_out(lists) -> None:
    assert "parameters" not in entry("old:5b-q4_0", {"file": "old.gguf"}, lists)


def test_real_lines_of_the_lists_make_the_shipped_entries() -> None:
    lists = TOOL["read_lists"](CHECKOUT / "tests/data/catalogue")
    selection = tomllib.loads((CHECKOUT / "tools/catalogue_selection.toml").read_text("utf-8"))
    makers = selection.pop("makers")
    shipped = {entry.name: entry for entry in catalogue.entries()}
    for kind, names in SAMPLED.items():
        for name in names:
            assert TOOL["entry_of"](name, selection[kind][name], kind, lists, makers) == shipped[name]
    if all_lists := os.environ.get("FILBERT_DATA"):  # where they are, every entry is made again
        assert TOOL["CATALOGUE"].read_text("utf-8") == TOOL["catalogue_of"](Path(all_lists))


def test_each_found_file_says_where_it_was_found() -> None:
    for row in TOOL["rows"](TOOL["FOUND"]):
        assert row["from"] and re.fullmatch("[0-9a-f]{64}", row["files"][0]["sha256"])
