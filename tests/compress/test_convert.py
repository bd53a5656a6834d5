"""A model of safetensors as a GGUF file, by llama.cpp's own converters out of the engine's source archive."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import filbert
import tiny_source
from filbert.compress import converter
from filbert.compress.convert import Asked, Converted, convert_job, folder_of
from filbert.compress.plan import Source, plan
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import stock
from filbert.compress.verify import PROMPTS, agreement
from filbert.core.errors import BadInput, BadModelFile, EngineError
from filbert.core.images import image_part
from filbert.core.jobs import finish
from filbert.core.messages import Message
from filbert.engine.sampling import Sampling
from filbert.engine.scorer import ComparedWindow, Scorer
from filbert.models.download_options import DownloadOptions
from filbert.models.gguf import read_header
from filbert.models.store import in_place
from models.model_servers import HubServer, serving
from running import children_of, gone, until

OPTIONS = DownloadOptions(pause_s=0.01, stall_s=30, retries=2)
CODE = "import pathlib; pathlib.Path(__file__).with_name('written').touch()\nclass Tokenizer: pass\n"


@pytest.fixture(scope="module")
def converters(test_models: Path) -> Path:
    """Kept between runs."""
    home = test_models / "converters"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(home))
        finish(converter.fetched(OPTIONS))
    return home / "converters"


@pytest.fixture
def ready(converters: Path, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "converters").symlink_to(converters)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In two parts, and with code of its own beside it that would leave a file."""
    folder = tiny_source.llama(tmp_path_factory.mktemp("source") / "Tiny-Llama", shard="200KB")
    (folder / "evil.py").write_text(CODE)
    for name in ("config.json", "tokenizer_config.json"):
        told = json.loads((folder / name).read_text())
        told["auto_map"] = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
        (folder / name).write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def made(llama: Path, converters: Path, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(folder / "home"))
        (folder / "home").mkdir()
        (folder / "home/converters").symlink_to(converters)
        return finish(convert_job(Asked(str(llama)), folder / "tiny {ftype}.gguf", OPTIONS))


@pytest.mark.torch
def test_nothing_is_lost_and_what_belongs_to_the_model_comes_along(made: Converted, llama: Path) -> None:
    header = made.header
    assert {tensor.type for tensor in header.tensors} == {"BF16", "F32"}, (
        "as the weights are; norms as the engine wants"
    )
    assert header.chat_template == tiny_source.TEMPLATE
    assert header.licence == "apache-2.0"
    assert header.metadata["general.languages"] == ("en",)
    assert header.text("general.name") == "Tiny Llama"
    assert len(header.load("tokenizer.ggml.tokens")) == 512  # type: ignore[arg-type]
    assert [path.name for path in made.path.parent.glob("*.gguf*")] == ["tiny {ftype}.gguf"]
    with filbert.load(str(made.path)) as model:
        assert model.respond([Message("user", "Well,")], Sampling(max_tokens=4)).reply().finish.reason


@pytest.mark.torch
def test_no_code_of_the_model_is_run(made: Converted, llama: Path) -> None:
    assert made.agreement
    assert not list(llama.rglob("written"))


@pytest.mark.torch
def test_it_says_what_its_source_says(made: Converted) -> None:
    found = made.agreement
    assert found
    assert found.kl < 1e-4
    assert found.n_same > 0.95 * found.n_tokens > 100
    assert found.n_alike == found.n_prompts == len(PROMPTS)
    assert found.worst < 0.1


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
def test_one_that_says_something_else_is_not_kept(
    llama: Path, made: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filbert.compress import convert

    other = tiny_source.llama(tmp_path / "other", seed=1)
    checked = convert._checked
    monkeypatch.setattr(convert, "_checked", lambda asked, run, *rest: checked(asked, replace(run, stage=other), *rest))
    with pytest.raises(BadModelFile, match=r"does not say what its source says.*mean KL divergence.*--no-verify"):
        finish(convert_job(Asked(str(llama)), tmp_path / "out.gguf", OPTIONS))
    assert not list(tmp_path.glob("*.gguf*"))
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
def test_an_adapter_changes_the_model_as_its_makers_have_it(made: Converted, llama: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, LlamaForCausalLM

    lora = tiny_source.adapter(tmp_path / "lora")
    found = finish(convert_job(Asked(str(llama), adapter=str(lora)), tmp_path / "lora.gguf", OPTIONS))
    assert found.header.kind == "adapter"
    model = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32)
    tensors = load_file(lora / "adapter_model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{stem}.lora_A.weight" in tensors:
                parameter += (
                    tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"] * (8 / tiny_source.RANK)
                )
        tokens = AutoTokenizer.from_pretrained(llama)(PROMPTS[0]).input_ids
        model(torch.tensor([tokens])).logits[0].numpy().astype(np.float32).tofile(tmp_path / "logits")
    divergences = []
    for adapters in ([], [str(found.path)]):
        with Scorer(in_place(made.path), adapters=adapters) as scorer:
            windows = finish(scorer.compare([tokens], tmp_path / "logits", 512))
            divergences.append(agreement(windows, 1).kl)
    assert divergences[1] < 1e-4 < 100 * divergences[1] < divergences[0]


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
def test_what_a_model_sees_with_comes_along_and_gets_smaller_too(tmp_path: Path) -> None:
    source = tiny_source.idefics(tmp_path / "eyes")
    found = finish(convert_job(Asked(str(source), "F16", projector=True), tmp_path / "gguf/eyes.gguf", OPTIONS))
    assert found.projector and found.projector.name == "mmproj-eyes.gguf"
    assert read_header(found.projector).kind == "projector"
    photo = Message("user", ({"type": "text", "text": "What?"}, image_part(Image.new("RGB", (56, 56), "red"))))
    smaller = plan(Source(in_place(found.projector), [read_header(found.projector)]), stock("Q8_0"))
    (tmp_path / "small").mkdir()
    shutil.copy(found.path, tmp_path / "small")
    finish(quantise_job(smaller, tmp_path / "small/mmproj-eyes.gguf"))
    assert smaller.size_bytes < found.projector.stat().st_size
    for folder in ("gguf", "small"):
        with filbert.load(str(tmp_path / folder / "eyes.gguf"), context=256) as model:
            assert model.respond([photo], Sampling(max_tokens=2)).reply().finish.reason


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
def test_a_repository_of_the_hub(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = HubServer()
    server.repos["owner/tiny"] = {path.name: path.read_bytes() for path in llama.iterdir() if path.is_file()}
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(server):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        asked = Asked("owner/tiny", "F32", verify=False)
        found = finish(convert_job(asked, tmp_path / "out.gguf", OPTIONS))
    assert found.header.text("general.name") == "Tiny"
    assert {tensor.type for tensor in found.header.tensors} == {"F32"}
    assert found.agreement is None


# What goes wrong


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("told", "asked", "error", "why"),
    [
        ({"architectures": ["NobodyKnowsForCausalLM"]}, {}, BadModelFile, "NobodyKnowsForCausalLM is an architecture"),
        ({}, {"projector": True}, BadInput, "LlamaForCausalLM has no vision projector"),
        ({"hidden_size": "wide"}, {}, EngineError, "The converter failed"),
    ],
)
def test_what_the_converter_cannot_do_is_a_sentence(
    told: dict[str, Any], asked: dict[str, Any], error: type[Exception], why: str, llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | told))
    with pytest.raises(error, match=why) as raised:
        finish(convert_job(replace(Asked(str(folder)), **asked), tmp_path / "out.gguf", OPTIONS))
    assert "Traceback" not in str(raised.value)
    assert not list(tmp_path.glob("*out.gguf*"))


RUN = (
    "import sys; from pathlib import Path; from filbert.compress.convert import *; from filbert.core.jobs import run;"
    "run('convert', {}, convert_job(Asked(sys.argv[1], 'F32', verify=False), Path(sys.argv[2]), DownloadOptions()),"
    "lambda event: print(event.step, flush=True))"
)


def running(source: Path, target: Path, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, source, target], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("how", "when"),
    [(signal.SIGKILL, "converting"), (signal.SIGINT, "starting"), (signal.SIGTERM, "starting")],
)
def test_who_stops_it_stops_the_converter_and_leaves_no_file(
    how: signal.Signals, when: str, llama: Path, tmp_path: Path
) -> None:
    process = running(llama, tmp_path / "out.gguf")
    assert process.stdout
    assert any(when in line for line in process.stdout)
    assert until(lambda: len(children_of(process.pid)) == 1)
    (child,) = children_of(process.pid)
    os.kill(process.pid, how)
    process.communicate()
    assert until(lambda: gone(child.pid), 20)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.torch
@pytest.mark.usefixtures("ready")
def test_a_disk_that_fills_up_leaves_no_file(llama: Path, tmp_path: Path) -> None:
    import resource

    bounded = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    process = running(llama, tmp_path / "out.gguf", preexec_fn=bounded)
    assert "DiskFull" in process.communicate()[1]
    assert not list(tmp_path.glob("*.gguf*"))
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="the extra is installed")
def test_without_the_extra_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"needs the extra `convert`. .* is not installed. `pip install 'filbert\[conv"):
        finish(convert_job(Asked(str(tmp_path)), tmp_path / "out.gguf", OPTIONS))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("./nowhere", "There is no folder ./nowhere"),
        ("nowhere", "It is no repository of the hub's either"),
        ("hf:owner/name/x.gguf", "is a GGUF file's name"),
        ("hf:owner/name:Q4_K_M", "Name the repository alone"),
        ("https://host/owner/name", "There is no folder"),
    ],
)
def test_a_name_that_is_none(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        finish(folder_of(name, "model", OPTIONS))


def test_a_number_that_is_none_is_no_agreement() -> None:
    whole = ComparedWindow(kl=[0.0, 0.5], nll=[1.0, 2.0], base_nll=[1.5, 2.0], same=[True, False])
    found = agreement([whole, whole], 1)
    assert (found.n_tokens, found.kl, found.worst, found.n_same) == (4, 0.25, 0.5, 2)
    assert "1 of 2 texts are split into other tokens" in found.told
    broken = ComparedWindow(kl=[None], nll=[None], base_nll=[1.0], same=[True])
    assert not agreement([broken], 1).kl <= 1e9
