from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import make_tiny
from filbert.core.errors import BadInput
from filbert.core.machine import Memory
from filbert.engine.threads import environment
from filbert.models.fit import Demand, default_context, estimate, prompt_cache_default
from filbert.models.gguf import Header, read_header, read_header_from

ASK = Path(__file__).with_name("ask_engine.py")
PLENTY = Memory(64 << 30, 64 << 30)


def changed(tmp_path: Path, **metadata: object) -> Header:
    """The tiny dense model with other numbers, under llama.KEY with dots for double underscores."""
    named = {f"llama.{key.replace('__', '.')}": value for key, value in metadata.items()}
    return read_header(make_tiny.dense(tmp_path / "x.gguf", metadata=named))


def peak_bytes(model: Path, context: int, demand: Demand, route: str, body: dict[str, object]) -> int:
    """Of a real worker that fills its context."""
    asked = {"model": str(model), "route": route, "context": context, "batch": demand.batch, "kv_type": demand.kv}
    command = [sys.executable, str(ASK), json.dumps({**asked, "parallel": demand.parallel, "body": body})]
    done = subprocess.run(command, env={**os.environ, **environment(threads=2)}, capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert said["answer"]["usage"]["prompt_tokens"] > 0.85 * context
    return int(said["peak_bytes"])


@pytest.mark.slow
@pytest.mark.parametrize("kv", ["f16", "q8_0"])
@pytest.mark.parametrize(("which", "context"), [("starter", 512), ("starter", 1536), ("tools_model_file", 1024)])
def test_the_estimate_is_within_10_percent_of_a_real_workers_peak(
    request: pytest.FixtureRequest, which: str, context: int, kv: str
) -> None:
    model: Path = request.getfixturevalue(which)
    body = {"prompt": "The cat sleeps by the window while it rains. " * ((context - 16) // 11), "n_predict": 4}
    peak = peak_bytes(model, context, Demand(kv), "complete", body)
    assert estimate([read_header(model)], context, Demand(kv)).total == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
@pytest.mark.parametrize("context", [256, 512])
def test_so_is_an_embedders(embedder: Path, context: int, kv: str) -> None:
    demand = Demand(kv, batch=context, pools=True)
    body = {"input": "the cat sleeps by the window while it rains and " * (context // 11)}
    peak = peak_bytes(embedder, context, demand, "embeddings", body)
    assert estimate([read_header(embedder)], context, demand).total == pytest.approx(peak, rel=0.1)


@pytest.mark.slow
def test_a_text_model_that_makes_vectors_keeps_logits_of_every_token(starter: Path) -> None:
    demand = Demand(batch=512, pools=True)
    body = {"input": "the cat sleeps by the window while it rains and " * 46}
    peak = peak_bytes(starter, 512, demand, "embeddings", body)
    assert estimate([read_header(starter)], 512, demand).total == pytest.approx(peak, rel=0.15)


def test_the_starters_cache_is_what_the_engine_reports(starter: Path) -> None:
    """The engine's log: 90.00 MiB at 4096 tokens of f16, 95.62 MiB at 8192 of q8_0."""
    header = read_header(starter)
    assert estimate([header], 4096).kv_cache == 90 << 20
    assert estimate([header], 8192, Demand("q8_0")).kv_cache == 95.625 * (1 << 20)


def test_the_default_context_is_the_trained_length_where_there_is_room(starter: Path) -> None:
    assert default_context([read_header(starter)], PLENTY) == 8192


def test_the_default_context_is_at_most_16384(tmp_path: Path) -> None:
    assert default_context([changed(tmp_path, context_length=131072)], PLENTY) == 16384


def test_the_default_context_is_what_fits_in_memory(starter: Path) -> None:
    header = read_header(starter)
    for context in (512, 768, 4096, 7936):
        room = estimate([header], context).total
        assert default_context([header], Memory(PLENTY.total, room)) == context
        assert default_context([header], Memory(PLENTY.total, room + 100)) == context


def test_of_a_context_without_end_as_much_is_taken_as_fits(tmp_path: Path) -> None:
    header, most = changed(tmp_path, context_length=2**31 - 1), 2**31 - 1
    room = estimate([header], 100 * 1024).total
    assert default_context([header], Memory(PLENTY.total, room), most=most) == 100 * 1024


def test_a_short_trained_length_is_taken_whole(tmp_path: Path) -> None:
    assert default_context([changed(tmp_path, context_length=300)], PLENTY) == 300


def test_a_model_that_does_not_fit_says_what_it_needs_and_what_is_free(starter: Path) -> None:
    with pytest.raises(
        BadInput, match=r"needs 0\.2 GB of memory with 512 tokens of context, and 0\.1 GB are free\. Close"
    ):
        default_context([read_header(starter)], Memory(1 << 30, 100_000_000))


def test_the_prompt_cache_is_the_smaller_of_512_mib_and_5_percent() -> None:
    assert prompt_cache_default(Memory(2_000_000_000, 1)) == 100_000_000
    assert prompt_cache_default(PLENTY) == 512 << 20


def test_every_part_of_a_split_model_counts(tmp_path: Path) -> None:
    whole = read_header(make_tiny.dense(tmp_path / "whole.gguf"))
    parts = [read_header(path) for path in make_tiny.split(tmp_path / "split.gguf")]
    assert estimate(parts, 512).weights == sum(header.size_bytes for header in parts)
    assert estimate(parts, 512).kv_cache == estimate([whole], 512).kv_cache


def test_a_projector_counts_with_its_model(tmp_path: Path) -> None:
    model, projector = (read_header(path) for path in make_tiny.vision(tmp_path / "a.gguf", tmp_path / "b.gguf"))
    alone, both = estimate([model], 512), estimate([model, projector], 512)
    assert both.weights - alone.weights == projector.size_bytes
    assert both.compute > alone.compute


def test_head_counts_by_block_are_summed(tmp_path: Path) -> None:
    assert estimate([changed(tmp_path, attention__head_count_kv=[2, 4])], 512).kv_cache == 512 * (2 + 4) * 32 * 2


def test_a_block_that_slides_keeps_a_window_and_a_batch(tmp_path: Path) -> None:
    header = changed(tmp_path, attention__sliding_window=256, attention__sliding_window_pattern=[True, False])
    assert estimate([header], 2048, Demand(batch=256)).kv_cache == (512 + 2048) * 2 * 32 * 2


def test_a_pattern_the_file_does_not_tell_counts_as_full(tmp_path: Path) -> None:
    full = estimate([changed(tmp_path)], 2048).kv_cache
    assert estimate([changed(tmp_path, attention__sliding_window=256)], 2048).kv_cache == full


def test_latent_attention_keeps_keys_only(tmp_path: Path) -> None:
    sizes = {"attention__key_length": 40, "attention__value_length": 32, "attention__head_count_kv": 1}
    assert estimate([changed(tmp_path, **sizes, attention__key_length_mla=24)], 512).kv_cache == 512 * 2 * 40 * 2


def test_an_encoder_keeps_nothing(tmp_path: Path) -> None:
    assert estimate([read_header(make_tiny.embedder(tmp_path / "x.gguf"))], 512).kv_cache == 0


def test_a_recurrent_state_does_not_grow_with_the_context(tmp_path: Path) -> None:
    state = {"ssm__state_size": 16, "ssm__inner_size": 128, "ssm__conv_kernel": 4, "attention__head_count_kv": [0, 0]}
    header = changed(tmp_path, **state)
    assert estimate([header], 512).kv_cache == estimate([header], 2048).kv_cache == 4 * (3 * 128 + 16 * 128) * 2
    assert estimate([header], 512, Demand(parallel=3)).kv_cache == 3 * estimate([header], 512).kv_cache


def test_weights_that_are_copied_when_loaded_count_twice(tmp_path: Path) -> None:
    header = read_header(make_tiny.quantised(tmp_path / "x.gguf", "Q4_0"))
    fit = estimate([header], 512)
    assert fit.weights == header.size_bytes
    assert fit.repacked == header.tensor_types["Q4_0"][1] > 0


def test_the_header_alone_is_enough_to_know_whether_a_remote_model_fits(starter: Path) -> None:
    data = starter.read_bytes()
    header = read_header_from(lambda offset, length: data[offset : offset + length], len(data), "remote")
    assert estimate([header], 4096) == estimate([read_header(starter)], 4096)
