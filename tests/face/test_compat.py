"""`filbert.compat` keeps the face of gpt4all 2.8.2, whose source is installed beside the tests and never imported."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import filbert.compat
import make_tiny
from filbert.compat import CancellationError, Embed4All, GPT4All
from filbert.core.errors import BadModelFile, OfflineRefused, UnknownModel
from filbert.face import gpt4all_engine

GREEDY = {"temp": 0, "max_tokens": 12}
QUESTION = "The capital of France is"


def original(name: str) -> ast.ClassDef:
    spec = importlib.util.find_spec("gpt4all")
    assert spec and spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "gpt4all.py"
    found = {node.name: node for node in ast.parse(source.read_text("utf-8")).body if isinstance(node, ast.ClassDef)}
    return found[name]


def methods(of: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """The public ones and the constructor, without the overloads that only type checkers read."""
    for node in of.body:
        if not isinstance(node, ast.FunctionDef) or "overload" in map(ast.unparse, node.decorator_list):
            continue
        if not node.name.startswith("_") or node.name in ("__init__", "__enter__", "__exit__"):
            yield node


def shape_of_source(method: ast.FunctionDef) -> list[tuple[str, str, str]]:
    """(kind, name, default) of each parameter."""
    arguments = method.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [""] * (len(positional) - len(arguments.defaults)) + [ast.unparse(d) for d in arguments.defaults]
    shape = [("positional", a.arg, d) for a, d in zip(positional, defaults, strict=True)]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        shape.append(("keyword", argument.arg, ast.unparse(default) if default else ""))
    return shape + ([("rest", arguments.kwarg.arg, "")] if arguments.kwarg else [])


KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "rest",
}


def shape_of_ours(method: Any) -> list[tuple[str, str, str]]:
    parameters = inspect.signature(inspect.unwrap(getattr(method, "__func__", method))).parameters.values()
    return [(KINDS[p.kind], p.name, default_of(p)) for p in parameters]


def default_of(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return ""
    return getattr(parameter.default, "__name__", repr(parameter.default))


def same(default: str) -> str:
    return default.replace('"', "'")


@pytest.mark.parametrize("name", ["GPT4All", "Embed4All"])
def test_every_public_call_has_the_names_order_and_defaults_of_the_original(name: str) -> None:
    ours = getattr(filbert.compat, name)
    compared = 0
    for method in methods(original(name)):
        twin = inspect.getattr_static(ours, method.name)
        decorators = [ast.unparse(decorator) for decorator in method.decorator_list]
        assert isinstance(twin, property) == ("property" in decorators)
        assert isinstance(twin, staticmethod) == ("staticmethod" in decorators)
        assert isinstance(twin, classmethod) == ("classmethod" in decorators)
        if not isinstance(twin, property):
            theirs = [(kind, arg, same(default)) for kind, arg, default in shape_of_source(method)]
            assert [(k, n, same(d)) for k, n, d in shape_of_ours(twin)] == theirs, method.name
        compared += 1
    assert compared >= 5


def test_the_module_offers_what_the_package_offers() -> None:
    assert set(filbert.compat.__all__) == {"CancellationError", "Embed4All", "GPT4All"}
    assert Embed4All.MIN_DIMENSIONALITY == 64


@pytest.fixture(scope="module")
def model(starter: Path) -> Iterator[GPT4All]:
    with GPT4All(starter.name, model_path=starter.parent, allow_download=False) as model:
        yield model


@pytest.fixture(scope="module")
def minilm(embedder: Path) -> Iterator[Embed4All]:
    with Embed4All(str(embedder), allow_download=False) as model:
        yield model


# --- finding a model ------------------------------------------------------------------------------------------------


def test_a_name_needs_no_extension_and_may_be_a_path(starter: Path) -> None:
    without = starter.name.removesuffix(".gguf")
    assert GPT4All.retrieve_model(without, model_path=str(starter.parent))["path"] == str(starter)
    assert GPT4All.retrieve_model(str(starter))["path"] == str(starter)


def test_a_file_in_the_old_folder_is_found_and_nobody_is_asked(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FILBERT_OFFLINE", "true")
    folder = tmp_path / ".cache" / "gpt4all"
    folder.mkdir(parents=True)
    (folder / "mine.gguf").symlink_to(starter)
    assert GPT4All.retrieve_model("mine", allow_download=True)["path"] == str(folder / "mine.gguf")


def test_what_filbert_has_installed_is_found_by_its_name_and_by_its_files_name(
    stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("smollm2:135m", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1"):
        assert Path(GPT4All.retrieve_model(name, allow_download=False)["path"]).is_relative_to(stocked)


def test_a_missing_file_or_folder_is_file_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Model file does not exist"):
        GPT4All("nothing-like-it", allow_download=False)
    with pytest.raises(FileNotFoundError, match="Model directory does not exist"):
        GPT4All("nothing-like-it", model_path=tmp_path / "nowhere")


def test_a_name_that_nobody_knows_and_a_forbidden_network_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FILBERT_OFFLINE", "true")
    with pytest.raises(UnknownModel):
        GPT4All("nothing:like-it")
    with pytest.raises(OfflineRefused):
        GPT4All("Llama-3.2-1B-Instruct-Q4_0.gguf")


def test_a_download_gets_its_name_in_the_folder_and_is_held_once(stocked: Path, tmp_path: Path) -> None:
    path = GPT4All.download_model("SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path, expected_size=98_362_432)
    assert Path(path) == tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert Path(path).stat().st_nlink >= 2
    with pytest.raises(ValueError, match="Expected MD5 hash"):
        GPT4All.download_model("SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path, expected_md5="0" * 32)


def test_the_list_has_the_keys_that_programs_read_and_gpt4alls_own_files() -> None:
    listed = GPT4All.list_models()
    assert {"Llama-3.2-1B-Instruct-Q4_0.gguf", "nomic-embed-text-v1.5.f16.gguf"} <= {m["filename"] for m in listed}
    for one in listed:
        assert one["name"] and int(one["filesize"]) > 0 and int(one["ramrequired"]) > 0


def test_a_file_that_is_no_model_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BadModelFile):
        GPT4All("bad.gguf", model_path=tmp_path)


# --- answers --------------------------------------------------------------------------------------------------------


def test_outside_a_session_a_prompt_is_gone_on_from(model: GPT4All) -> None:
    assert "Paris" in model.generate(QUESTION, **GREEDY)
    assert model.current_chat_session is None


def test_a_stream_says_what_the_whole_says(model: GPT4All) -> None:
    pieces = list(model.generate(QUESTION, streaming=True, **GREEDY))
    assert len(pieces) > 3
    assert "".join(pieces) == model.generate(QUESTION, **GREEDY)


def test_n_predict_beats_max_tokens(model: GPT4All) -> None:
    assert len(list(model.generate(QUESTION, max_tokens=200, n_predict=3, temp=0, streaming=True))) <= 3
    assert model.generate(QUESTION, max_tokens=0) == ""


def test_a_callback_hears_tokens_and_ends_the_answer_by_false(model: GPT4All) -> None:
    heard: list[tuple[int, str]] = []

    def until_three(token: int, piece: str) -> bool:
        heard.append((token, piece))
        return len(heard) < 3

    whole = model.generate(QUESTION, callback=until_three, **GREEDY)
    assert whole == "".join(piece for _, piece in heard)
    assert len(heard) == 3
    assert all(isinstance(token, int) and token > 0 for token, _ in heard)
    heard.clear()
    with model.chat_session():
        streamed = list(model.generate("Count to ten.", callback=until_three, streaming=True, **GREEDY))
        assert model.current_chat_session is not None
        assert len(streamed) == 2
        assert model.current_chat_session[-1]["content"] == "".join(piece for _, piece in heard)


def test_a_session_remembers_is_a_copy_and_is_over_afterwards(model: GPT4All) -> None:
    with model.chat_session("You know my name.") as session:
        assert session is model
        model.generate("My name is Hazel.", **GREEDY)
        stream = model.generate("What did I say?", streaming=True, **GREEDY)
        first = next(iter(stream))
        told = model.current_chat_session
        assert told is not None
        assert [message["role"] for message in told] == ["system", "user", "assistant", "user", "assistant"]
        assert told[0]["content"] == "You know my name."
        assert told[-1]["content"].startswith(first)
        told.clear()
        assert model.current_chat_session
    assert model.current_chat_session is None


def test_a_stream_that_is_left_ends_and_the_session_goes_on(model: GPT4All) -> None:
    with model.chat_session():
        left = model.generate("Tell me a very long story.", streaming=True, max_tokens=500)
        next(iter(left))
        assert model.generate("What is the capital of France?", max_tokens=40, temp=0)
    assert "Paris" in model.generate(QUESTION, **GREEDY)


def test_a_prompt_template_is_used_as_it_stands(model: GPT4All) -> None:
    template = "<|im_start|>user\n{0}<|im_end|>\n<|im_start|>assistant\n{1}<|im_end|>\n"
    with model.chat_session("", template):
        assert "Paris" in model.generate("What is the capital of France?", max_tokens=30, temp=0)
        assert model.generate("And of Italy?", **GREEDY)
    with pytest.raises(ValueError, match="literal '%1'"), model.chat_session("", "%1"):
        pass


def test_a_model_without_a_chat_template_is_asked_as_alpaca(tmp_path: Path) -> None:
    make_tiny.dense(tmp_path / "bare.gguf", template=None)
    with (
        GPT4All("bare.gguf", model_path=tmp_path, n_ctx=256) as model,
        pytest.warns(DeprecationWarning, match="Alpaca"),
        model.chat_session(),
    ):
        assert isinstance(model.generate("hi", max_tokens=3), str)


@pytest.mark.slow
def test_a_session_longer_than_the_context_forgets_its_oldest_turns(starter: Path) -> None:
    with GPT4All(str(starter), n_ctx=256) as model, model.chat_session("", "{0}\n{1}\n"):
        for _ in range(4):
            assert model.generate("one two three four five " * 15, max_tokens=20)


def test_threads_generate_side_by_side_and_in_one_session(model: GPT4All) -> None:
    said: list[str] = []

    def ask() -> None:
        said.append(model.generate(QUESTION, **GREEDY))

    def run() -> None:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run()
    assert len(set(said)) == 1
    with model.chat_session():
        run()
        told = model.current_chat_session
    assert told is not None
    assert len(told) == 9
    assert len(said) == 8
    assert all(message["content"] for message in told if message["role"] == "assistant")


def test_a_closed_model_is_a_value_error(starter: Path) -> None:
    model = GPT4All(str(starter))
    model.close()
    for asked in (lambda: model.generate("hi"), lambda: model.model.thread_count(), lambda: model.backend):
        with pytest.raises(ValueError, match="closed"):
            asked()


def test_a_stream_left_by_a_thread_that_ended_keeps_nobody_waiting(model: GPT4All) -> None:
    left: list[Any] = []

    def leave_half_read() -> None:
        left.append(iter(model.generate("Tell me a story", max_tokens=200, streaming=True)))
        next(left[-1])

    with model.chat_session():
        for _ in range(2):  # the second is still there when the session is left
            thread = threading.Thread(target=leave_half_read)
            thread.start()
            thread.join()
        assert model.current_chat_session
        assert len(model.current_chat_session) == 5
    assert model.generate("hi", max_tokens=2)


def test_threads_may_be_set_after_loading(starter: Path) -> None:
    with GPT4All(str(starter), n_threads=1, n_ctx=512) as model:
        assert model.model.thread_count() == 1
        model.model.set_thread_count(10_000)
        assert model.model.thread_count() == os.cpu_count()
        assert "Paris" in model.generate(QUESTION, **GREEDY)


def test_what_means_nothing_any_more_is_accepted_and_named_once(starter: Path) -> None:
    gpt4all_engine._warned.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            with GPT4All(str(starter), device="gpu", n_ctx=256, verbose=True, ngl=5) as model:
                model.generate("hi", n_batch=128, max_tokens=1)
    gpus = GPT4All.list_gpus()
    assert [str(w.message).partition(" ")[0] for w in told] == (["n_batch"] if gpus else ["device='gpu'", "n_batch"])


# --- vectors --------------------------------------------------------------------------------------------------------


def test_a_text_gives_a_vector_and_a_list_gives_a_list(minilm: Embed4All) -> None:
    one = minilm.embed("A squirrel hides a nut.")
    two = minilm.embed(["A squirrel hides a nut.", "The stock market fell."])
    assert len(one) == 384
    assert one == pytest.approx(two[0], abs=1e-4)
    assert sum(value * value for value in one) == pytest.approx(1)
    told = minilm.embed("A squirrel hides a nut.", return_dict=True)
    assert set(told) == {"embeddings", "n_prompt_tokens"}
    assert told["n_prompt_tokens"] > 5


@pytest.mark.slow
def test_long_texts_are_averaged_or_cut(minilm: Embed4All) -> None:
    text = "The squirrel hides nuts in autumn. " * 100 + "The stock market fell again. " * 200
    first, mean, cut = (
        minilm.embed("The squirrel hides nuts in autumn. " * 70),
        minilm.embed(text),
        minilm.embed(text, long_text_mode="truncate"),
    )
    assert closeness(cut, first) > 0.95
    assert closeness(mean, first) < 0.9
    with pytest.raises(ValueError, match="Atlas"):
        minilm.embed("squirrel " * 9000, atlas=True)


def closeness(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_wrong_wishes_for_vectors_are_the_originals_errors(minilm: Embed4All) -> None:
    for wrong in ("", []):
        with pytest.raises(ValueError, match="must not be None or empty"):
            minilm.embed(wrong)
    with pytest.raises(ValueError, match="Long text mode"):
        minilm.embed("hi", long_text_mode="sum")
    for size in (0, -3):
        with pytest.raises(ValueError, match="Dimensionality"):
            minilm.embed("hi", dimensionality=size)
    with pytest.raises(RuntimeError, match="dimensionality"):
        minilm.embed("hi", dimensionality=128)  # this one is not made to be cut
    with pytest.raises(RuntimeError, match="task type"):
        minilm.embed("hi", prefix="search_query")


def test_a_callback_may_cancel_and_hears_the_sizes(minilm: Embed4All) -> None:
    heard: list[tuple[list[int], str]] = []

    def cancel(sizes: list[int], backend: str) -> bool:
        heard.append((sizes, backend))
        return True

    with pytest.raises(CancellationError):
        minilm.embed(["one", "two three four"], cancel_cb=cancel)
    ((sizes, backend),) = heard
    assert backend == "cpu"
    assert sizes == [3, 5]


def test_an_embedder_does_not_chat(minilm: Embed4All) -> None:
    with pytest.raises(filbert.FilbertError, match="makes embeddings"):
        minilm.gpt4all.generate("hi")


# --- other people's programs ----------------------------------------------------------------------------------------

LANGCHAIN = """
import sys, filbert.compat
sys.modules["gpt4all"] = filbert.compat
from langchain_community.llms import GPT4All
from langchain_community.embeddings import GPT4AllEmbeddings
model = GPT4All(model=sys.argv[1], temp=0, n_predict=12)
assert "Paris" in model.invoke("The capital of France is")
assert "Paris" not in model.invoke("The capital of France is", stop=["Par"])
assert "Paris" in "".join(model.stream("The capital of France is"))
vectors = GPT4AllEmbeddings(gpt4all_kwargs={"allow_download": "True"})
assert len(vectors.embed_query("nuts")) == 384
assert len(vectors.embed_documents(["nuts", "squirrels"])) == 2
print("fine")
"""

LLM = """
import sys, filbert.compat
sys.modules["gpt4all"] = filbert.compat
from llm.cli import cli
cli()
"""


def program(script: str, folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "HOME": str(folder),
        "LLM_USER_PATH": str(folder / "llm"),
        "FILBERT_OFFLINE": "true",
        "LANGSMITH_TRACING": "false",
    }
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def old_home(tmp_path: Path, starter: Path, embedder: Path) -> Path:
    """The home of somebody who used gpt4all, with two models and a plugin's copy of the list in it."""
    folder = tmp_path / ".cache" / "gpt4all"
    folder.mkdir(parents=True)
    (folder / starter.name).symlink_to(starter)
    (folder / "all-MiniLM-L6-v2.gguf2.f16.gguf").symlink_to(embedder)
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "gpt4all_models3.json").write_text(json.dumps(GPT4All.list_models()))
    return tmp_path


@pytest.mark.slow
def test_langchain_runs_on_it(old_home: Path, starter: Path) -> None:
    assert program(LANGCHAIN, old_home, str(old_home / ".cache" / "gpt4all" / starter.name)) == "fine\n"


@pytest.mark.slow
def test_the_llm_plugin_runs_on_it(old_home: Path, model: GPT4All) -> None:
    listed = program(LLM, old_home, "models", "list")
    assert "gpt4all: SmolLM2-135M-Instruct - smollm2:135m" in listed
    assert "(installed)" in listed
    chosen = ["-m", "SmolLM2-135M-Instruct", "-o", "temp", "0", "-o", "max_tokens", "12"]
    answer = program(LLM, old_home, "prompt", *chosen, "What is the capital of France?").strip()
    asked = "### Human: \nWhat is the capital of France?\n### Assistant:\n"  # the plugin's own template
    assert answer
    assert answer == model.generate(asked, **GREEDY).strip()
