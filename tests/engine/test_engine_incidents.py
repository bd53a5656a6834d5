"""What broke, or was broken into, in tools like ours: each test is named after the incident that owes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import filbert
import make_tiny
from filbert import Message, Model, Sampling
from filbert.core.errors import BadSetting, ContextOverflow, FilbertError, UnknownModel
from filbert.core.settings import configured
from running import worker_pid

Load = Callable[..., Model]


@pytest.mark.parametrize("name", ["n_discard", "n_keep", "id_slot", "cache_prompt", "lora", "slot_id", "mirostat"])
def test_cve_2026_21869_a_field_that_is_not_ours_never_reaches_the_engine(name: str) -> None:
    with pytest.raises(BadSetting, match=f"There is no setting sampling.{name}"):
        configured(Sampling, {name: -5})


def test_cve_2026_21869_only_fields_of_our_own_schema_are_passed_on(tiny_model: Model) -> None:
    everything = {
        "temperature": 1, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.1, "frequency_penalty": 0.1,
        "presence_penalty": 0.1, "seed": 3, "max_tokens": 4, "stop": ("zz",), "logprobs": 2,
        "json_schema": {"type": "integer"},
    }  # fmt: skip
    for route in ("/v1/chat/completions", "/v1/completions"):
        prepared = tiny_model.prepare(route, {"messages": []}, configured(Sampling, everything), 10)
        assert set(prepared.body) <= {
            "messages",
            "cache_prompt",
            "response_format",
            "top_logprobs",
            *Sampling.model_fields,
        }


def test_cve_2024_34359_a_chat_template_reaches_no_python_and_no_file(tmp_path: Path) -> None:
    """llama-cpp-python ran code out of a GGUF's template; ours is rendered by the engine's own interpreter."""
    loot = tmp_path / "loot"
    attack = f"{{{{ cycler.__init__.__globals__.os.system('touch {loot}') }}}}{{{{ ''.__class__.__mro__ }}}}"
    template = "{% if messages[-1]['content'] == 'attack' %}" + attack + "{% endif %}" + make_tiny.CHATML
    path = make_tiny.dense(tmp_path / "attack.gguf", template=template)
    with filbert.load(str(path), context=512) as model:
        with pytest.raises(FilbertError):
            model.generate("attack", max_tokens=2).reply()
        assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens
    assert not loot.exists()


def test_cve_2024_34359_a_template_cannot_include_another_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("s3cr3t" * 20)
    template = "{% include '" + str(secret) + "' %}" + make_tiny.CHATML
    path = make_tiny.dense(tmp_path / "include.gguf", template=template)
    try:
        with filbert.load(str(path), context=512) as model:
            counted = model.count_tokens([Message("user", "hi")])
    except FilbertError:
        return
    assert counted < 60, "the file became part of the prompt"


def test_probllama_and_its_like_the_same_error_for_a_missing_and_a_forbidden_file(tmp_path: Path) -> None:
    told = set()
    for path in (tmp_path / "missing.gguf", tmp_path, Path("/dev/zero")):
        with pytest.raises(UnknownModel) as caught:
            filbert.load(str(path))
        told.add(caught.value.what.replace(str(path), "PATH"))
    assert told == {"There is no model file at PATH."}


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/x.png", "file:///etc/hostname", "/etc/hostname"])
def test_llama_server_media_an_image_is_never_fetched_nor_read_from_the_disk(tmp_path: Path, where: str) -> None:
    path, _ = make_tiny.vision(tmp_path / "eyes.gguf", tmp_path / "mmproj-eyes.gguf")
    seen = Message("user", ({"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": where}}))
    with filbert.load(str(path), context=512) as eyes:
        with pytest.raises(FilbertError):
            eyes.respond([seen], Sampling(max_tokens=2)).reply()
        assert eyes.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_gpt4all_the_context_is_never_shortened_silently(load: Load) -> None:
    model = load("dense", context=256)
    messages = [Message("system", "Always answer in French."), Message("user", "x" * 300)]
    with pytest.raises(ContextOverflow, match=r"The prompt has 3\d\d tokens and the context holds 256"):
        model.respond(messages).reply()


def test_llama_cpp_23652_answers_together_longer_than_the_cache_do_not_end_each_other(load: Load) -> None:
    model = load("dense", context=512, parallel=4)
    endless = Sampling(grammar='root ::= "x" root', max_tokens=200)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: model.complete(f"{n}" * 20, endless).reply(), range(8)))
    assert [(reply.usage.completion_tokens, reply.finish.reason) for reply in replies] == [(200, "length")] * 8


def test_llama_cpp_23652_nor_do_those_whose_chat_template_brings_pages_of_its_own(tmp_path: Path) -> None:
    wordy = "{{ '" + "Be kind and clear. " * 30 + "' }}" + make_tiny.CHATML
    path = make_tiny.dense(tmp_path / "wordy.gguf", template=wordy)
    with filbert.load(str(path), context=2048, parallel=2) as model, ThreadPoolExecutor(4) as pool:
        long = Sampling(max_tokens=700, grammar='root ::= "x" root')
        replies = list(pool.map(lambda n: model.respond([Message("user", f"{n}" * 20)], long).reply(), range(4)))
    assert {reply.finish.reason for reply in replies} == {"length"}
    assert replies[0].usage.prompt_tokens > 500


@pytest.mark.slow
def test_llama_cpp_20509_the_prompt_cache_stays_within_its_budget(load: Load) -> None:
    model = load("dense", context=2048, prompt_cache_mib=4, parallel=1)
    process = psutil.Process(worker_pid(model))

    def soak(times: range) -> int:
        for number in times:
            model.complete(json.dumps([number] * 300), Sampling(max_tokens=1)).reply()
        return process.memory_info().rss

    warm, later = soak(range(25)), soak(range(25, 150))
    assert later - warm < 12 << 20


def test_the_prompt_cache_is_part_of_the_plan(load: Load) -> None:
    assert load("dense").prompt_cache_mib <= 512
    assert load("dense", prompt_cache_mib=7).children.workers["text"].plan.cache_ram_mib == 7
