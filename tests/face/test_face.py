from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import filbert
import make_tiny
from filbert.core.errors import BadModelFile, BadSetting, FilbertError, OfflineRefused, UnknownModel

HEAVY = ("pydantic", "httpx", "numpy", "psutil", "rich", "typer", "fastapi", "huggingface_hub", "xllamacpp", "asyncio")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny.write_all(folder)
    return folder


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_import_filbert_loads_next_to_nothing() -> None:
    script = (
        "import sys; before = set(sys.modules); import filbert; new = set(sys.modules) - before\n"
        f"print(len(new), [name for name in {HEAVY} if name in new])"
    )
    done = python(script)
    count, heavy = done.stdout.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert int(count) < 12


def test_what_filbert_offers_is_where_it_says() -> None:
    assert set(filbert.__all__) == {*filbert._HOMES, "__version__"}
    assert sorted(filbert.__all__) == dir(filbert)
    for name, home in filbert._HOMES.items():
        assert getattr(filbert, name) is getattr(importlib.import_module(home), name)
        assert getattr(filbert, name).__module__ == home


def test_what_it_does_not_offer_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GPT4All'"):
        filbert.GPT4All  # noqa: B018


def test_every_offered_class_and_function_says_what_it_is() -> None:
    undocumented = [name for name in filbert._HOMES if not getattr(filbert, name).__doc__]
    assert undocumented == []


def test_results_are_typed_and_frozen(tiny: Path) -> None:
    with filbert.load(str(tiny / "dense.gguf"), context=256) as model:
        reply = model.generate("hi", max_tokens=3, seed=1).reply()
    assert isinstance(reply, filbert.Reply)
    assert (type(reply.text), type(reply.usage.prompt_tokens), type(reply.timings.prompt_s)) == (str, int, float)
    assert reply.usage is reply.finish.usage
    with pytest.raises(dataclasses.FrozenInstanceError):
        reply.text = "other"  # type: ignore[misc]


def test_a_model_is_loaded_by_path_also_from_the_home_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny))
    with filbert.load("~/dense.gguf", context=256) as model:
        assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownModel, match="smollm2") as caught:
        filbert.load("smolm2:135m")
    assert caught.value.do


def test_a_name_that_is_not_here_is_refused_offline_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused) as caught:
        filbert.load("smollm2:135m")
    assert caught.value.do


@pytest.mark.parametrize("body", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_no_model_is_refused_before_any_child_starts(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(body)
    with pytest.raises(BadModelFile):
        filbert.load(str(path))


def test_a_wrong_option_is_told_before_anything_is_pulled() -> None:
    with pytest.raises(BadSetting, match=r"There is no setting load\.contxt"):
        filbert.load("smollm2:135m", contxt=8)


def test_a_wrong_wish_is_told_before_the_engine_is_asked(tiny: Path) -> None:
    with filbert.load(str(tiny / "dense.gguf"), context=256) as model:
        for wish in ({"temprature": 1}, {"temperature": "hot"}):
            with pytest.raises(FilbertError, match="temp"):
                model.generate("hi", **wish)


def test_a_path_object_names_a_file(starter: Path) -> None:
    with filbert.load(starter, context=256) as model:
        assert model.generate("hi", max_tokens=1).reply().usage.completion_tokens == 1


def test_a_forked_process_is_told_to_load_its_own_and_its_parents_model_lives_on(starter: Path) -> None:
    program = f"""
import os, filbert
model = filbert.load({str(starter)!r}, context=256)
pid = os.fork()
if pid == 0:
    try:
        model.generate("hi", max_tokens=1).text
    except filbert.FilbertError as exc:
        print(exc, flush=True)
    raise SystemExit
os.waitpid(pid, 0)
print(model.generate("hi", max_tokens=1).reply().usage.completion_tokens)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    told, lived = done.stdout.splitlines()
    assert "forked" in told
    assert lived == "1"
