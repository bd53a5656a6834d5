from __future__ import annotations

import json
from pathlib import Path

import pytest

import make_tiny

PARTS = ("weights", "key/value cache", "compute buffers", "prompt cache", "process", "all")


def test_fit_prints_what_a_model_takes_whether_it_fits_and_how_fast_it_is(filbert, measured, starter: Path) -> None:
    done = filbert("fit", str(starter), "--context", "2048", "--kv", "q8_0")
    assert done.returncode == 0
    assert all(part in done.stdout for part in PARTS)
    assert "2048 tokens of context in a cache of q8_0" in done.stdout
    assert "It fits" in done.stdout
    assert "8192 tokens, all it was trained on" in done.stdout
    assert "give or take 15 %" in done.stdout
    assert "bound by compute" in done.stdout


def test_fit_as_json_gives_bytes_tokens_and_speeds(filbert, measured, starter: Path) -> None:
    found = json.loads(filbert("fit", str(starter), "--json").stdout)
    assert found["total"] == sum(found["memory"].values())
    assert found["fits"] is True
    assert (found["context"], found["trained"], found["largest_context"]) == (8192, 8192, 8192)
    assert found["empty"]["generation"] > found["full"]["generation"] > 0


def test_fit_of_a_model_that_is_too_large_says_so(filbert, measured, tmp_path: Path) -> None:
    parts = make_tiny.dense_parts(metadata={"llama.context_length": 2**31 - 1, "llama.attention.head_count_kv": 4})
    make_tiny.write(tmp_path / "x.gguf", parts)
    done = filbert("fit", str(tmp_path / "x.gguf"), "--context", str(2**31 - 1))
    assert "It does not fit with 2147483647 tokens of context" in done.stdout
    assert "would fit" in done.stdout


def test_an_embedder_is_predicted_to_read_and_takes_no_prompt_cache(filbert, measured, tmp_path: Path) -> None:
    found = json.loads(filbert("fit", str(make_tiny.embedder(tmp_path / "e.gguf")), "--json").stdout)
    assert found["memory"]["prompt_cache"] == 0
    assert found["empty"]["generation"] is None
    assert "It will read texts" in filbert("fit", str(tmp_path / "e.gguf")).stdout


def test_fit_without_a_name_means_the_setting_and_an_unknown_one_is_a_sentence(filbert, measured) -> None:
    assert filbert("fit").stdout.startswith("smollm2:135m-q4_1 (Q4_1), ")
    assert "There is no model nonsense" in filbert("fit", "nonsense").stderr


@pytest.mark.slow
@pytest.mark.parametrize("unreached", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"FILBERT_OFFLINE": "1"}])
def test_without_the_header_the_catalogue_tells_roughly(filbert, measured, unreached: dict[str, str]) -> None:
    done = filbert("fit", "qwen3:4b", **unreached, FILBERT_DOWNLOAD_RETRIES="0")
    assert done.returncode == 0, done.stderr
    head, why, fits, speed = done.stdout.splitlines()
    assert head == "qwen3:4b-q4_k_m: about 2.44 GB, from the catalogue's figures; its header was not read."
    assert why.strip()
    assert "Roughly reckoned, it " in fits and "are free" in fits
    assert speed.startswith("It will write about ")
    assert "--context and --kv are not reckoned with" in filbert("fit", "qwen3:4b", "--offline", "--kv", "q8_0").stdout
    found = json.loads(filbert("fit", "qwen3:4b", "--json", "--offline").stdout)
    assert (found["rough"], found["weights"], found["fits"]) == (True, 2_445_000_000, "it fits" in fits)


def test_without_the_header_and_figures_nothing_is_told(filbert, measured) -> None:
    done = filbert("fit", "hf:owner/repo:Q4_K_M", "--offline")
    assert (done.returncode, done.stdout) == (3, "")
