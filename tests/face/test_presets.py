"""`filbert set` and what comes of it when a model is loaded: one real model, its answers compared."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import filbert
import make_tiny
from filbert import Message, Sampling
from filbert.core.errors import BadInput, BadModelFile, UnknownModel
from filbert.face.presets import change
from filbert.models import store
from filbert.models.modelfile import read_modelfile
from filbert.models.preset import kept, preset_file

STARTER = "smollm2:135m-q4_1"
GREEDY = {"temperature": 0, "max_tokens": 6}
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
Load = Callable[..., filbert.Model]

pytestmark = pytest.mark.usefixtures("stocked")


@pytest.fixture
def load() -> Iterator[Load]:
    loaded: list[filbert.Model] = []

    def by_name(name: str, **options: Any) -> filbert.Model:
        loaded.append(filbert.load(name, **{"context": 512, **options}))
        return loaded[-1]

    yield by_name
    for model in loaded:
        model.close()


def test_a_loaded_model_answers_as_its_preset_says_and_keywords_beat_it(load: Load) -> None:
    change("brief", {"of": "smollm2:135m", "context": "256", "temperature": "0", "max_tokens": "4"})
    model = filbert.load("brief")
    with model:
        assert model.context == 256
        assert f"brief ({STARTER}): context 256" in model.summary
        assert model.generate("Count to ten.").reply().usage.completion_tokens == 4
        assert model.generate("Count to ten.", max_tokens=2).reply().usage.completion_tokens == 2
    assert load("brief", context=128).context == 128


@pytest.mark.slow
def test_a_conversations_own_system_message_replaces_the_presets(load: Load) -> None:
    change("pirate", {"of": "smollm2:135m", "system": "You are a pirate."})
    pirate, plain = load("pirate"), load("smollm2:135m")
    own, question = Message("system", "You are a nurse."), Message("user", "Who are you?")
    assert pirate.conversation([question]) == [Message("system", "You are a pirate."), question]
    assert pirate.conversation([own, question]) == [own, question]
    assert pirate.count_tokens([question]) == plain.count_tokens([Message("system", "You are a pirate."), question])
    greedy = Sampling(**GREEDY)
    assert pirate.respond([own, question], greedy).text == plain.respond([own, question], greedy).text
    assert pirate.complete("Once upon", greedy).text == plain.complete("Once upon", greedy).text
    assert (
        pirate.chat(**GREEDY).send("Who are you?").text
        == plain.chat("You are a pirate.", **GREEDY).send("Who are you?").text
    )


def test_a_template_of_ones_own_replaces_the_files(load: Load) -> None:
    change("raw", {"of": "smollm2:135m", "template": PLAIN})
    raw, plain = load("raw"), load("smollm2:135m")
    greedy = Sampling(**GREEDY)
    assert raw.generate("Hi", **GREEDY).text == plain.complete("user: Hi\nassistant: ", greedy).text
    assert raw.chat_template == PLAIN


def test_a_template_that_cannot_be_read_is_no_fault_of_the_models_file(load: Load) -> None:
    with pytest.raises(BadInput, match="The engine cannot use the chat template"):
        load("smollm2:135m", template="{{ never closed")


def test_a_template_that_loops_for_ever_ends_at_the_deadline(load: Load) -> None:
    loop = (
        "{% if messages[-1].content == 'loop' %}{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}"
    )
    change("looping", {"of": "smollm2:135m", "stall_s": "2", "template": f"{loop}{{% endfor %}}{{% endif %}}{PLAIN}"})
    model = load("looping")
    with pytest.raises(filbert.FilbertError, match="template"):
        model.generate("loop").reply()
    assert model.generate("hi", max_tokens=2).reply().usage.completion_tokens


def test_the_processor_can_be_asked_for_and_a_device_that_is_not_there_is_refused(load: Load) -> None:
    assert load("smollm2:135m", device="cpu").generate("Hi", **GREEDY).text
    with pytest.raises(BadInput, match=r"There is no device CUDA9. The engine knows auto, cpu"):
        load("smollm2:135m", device="CUDA9")


def test_values_are_taken_away_and_forgotten() -> None:
    change(STARTER, {"temperature": "0", "stop": '["a", "b"]', "system": "one"})
    change("smollm2:135m", {"temperature": "", "stop": "c"})
    left = kept(STARTER)
    assert left is not None
    assert (left.sampling, left.system) == ({"stop": ["c"]}, "one")
    change(STARTER, {"top_k": "3"}, clear=True)
    left = kept(STARTER)
    assert left is not None
    assert (left.sampling, left.system) == ({"top_k": 3}, "")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"temprature": "1"}, "no key temprature. Did you mean temperature"),
        ({"kontext": "1"}, "Did you mean context"),
        ({"zzz": "1"}, "A preset has no key zzz. It takes of, system, keep_alive, context"),
        ({"temperature": "9"}, "temperature cannot be '9'"),
        ({"context": "many"}, "context cannot be 'many'"),
        (
            {"keep_alive": "an hour"},
            "keep_alive cannot be 'an hour'. It is a number of seconds or a duration such as 5m",
        ),
        ({"kv": "q3"}, "kv cannot be 'q3'"),
        ({"json_schema": "{"}, "json_schema is not JSON"),
        ({"stop": "[1"}, "stop is not JSON"),
        ({"system": "a\x1b[2J"}, r"system holds the control character '\\x1b'"),
        ({"system": "a\udcff"}, r"system holds the control character '\\udcff'"),
        ({"template": "a\x00"}, "template holds the control character"),
        ({"system": "x" * 10_000_000}, "system has 10,000,000 characters, and 1,048,576 is the most"),
        ({"template": "x" * 1_000_000}, "template cannot be"),
        ({"adapters": "nothing-here"}, "There is no adapter nothing-here"),
    ],
)
def test_what_a_model_cannot_take_is_refused_and_nothing_is_kept(values: dict[str, str], why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        change(STARTER, values)
    assert len(str(caught.value)) < 1000
    assert kept(STARTER) is None


@pytest.mark.parametrize(("text", "keep_s"), [("3600", 3600), ("1h30m", 5400), ("0", 0), ("-1", -1), ("-5m", -1)])
def test_how_long_it_stays_in_memory_is_kept_as_ollama_writes_it(text: str, keep_s: float) -> None:
    change(STARTER, {"keep_alive": text})
    change("mine", {"of": STARTER, "temperature": "0"})
    change("yours", {"of": "mine", "keep_alive": "7"})
    for name, expected in ((STARTER, keep_s), ("mine", keep_s), ("yours", 7)):
        found = store.resolve(name).preset
        assert found is not None and found.keep_alive == expected
    assert change(STARTER, {"keep_alive": ""}).keep_alive is None


def test_a_name_stands_for_what_is_here_only() -> None:
    with pytest.raises(UnknownModel, match="There is no model nothing:1b"):
        change("mine", {"of": "nothing:1b"})
    with pytest.raises(UnknownModel, match=r"There is no model mine\. .* `filbert set mine of=MODEL temperature=0`"):
        change("mine", {"temperature": "0"})
    with pytest.raises(UnknownModel, match="`filbert set mine of=MODEL …`"):
        change("mine", {"system": "long " * 100})
    with pytest.raises(BadInput, match="smollm2:135m is an installed model"):
        change("smollm2:135m", {"of": "smollm2:135m"})
    with pytest.raises(BadInput, match="cannot be a name of your own"):
        change("./mine", {"of": "smollm2:135m"})


def test_a_loop_is_refused_before_it_is_kept() -> None:
    change("one", {"of": "smollm2:135m"})
    change("two", {"of": "one"})
    for name, of in (("one", "two"), ("one", "one")):
        with pytest.raises(BadInput, match="one would stand for itself"):
            change(name, {"of": of})
    assert store.resolve("two").path == store.resolve(STARTER).path


def test_a_file_where_it_lies_gets_a_name(starter: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(starter.parent)
    change("mine", {"of": f"./{starter.name}"})
    monkeypatch.chdir("/")
    assert store.resolve("mine").path == starter
    with pytest.raises(BadInput, match=r"is no installed model. `filbert set my-model of="):
        change(str(starter), {"temperature": "0"})


def test_many_who_set_one_name_at_once_all_succeed() -> None:
    pairs = [{"top_k": "3"}, {"top_p": "0.5"}, {"min_p": "0.1"}, {"temperature": "0"}, {"context": "512"}]
    change("mine", {"of": "smollm2:135m"})
    threads = [threading.Thread(target=change, args=("mine", values)) for values in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kept("mine")
    assert found is not None
    assert len({**found.load, **found.sampling}) == len(pairs)


MODELFILE = """FROM smollm2:135m
PARAMETER num_ctx 512
PARAMETER temperature 0
PARAMETER num_predict 6
SYSTEM You are a pirate.
MESSAGE user Hi
MESSAGE assistant Arr!
"""


def test_a_modelfile_becomes_a_name_that_answers_as_it_says(tmp_path: Path, load: Load) -> None:
    (tmp_path / "Modelfile").write_text(MODELFILE)
    change("pirate", {}, modelfile=read_modelfile(tmp_path / "Modelfile"))
    said = [Message("system", "You are a pirate."), Message("user", "Hi"), Message("assistant", "Arr!")]
    question = Message("user", "Who are you?")
    expected = load("smollm2:135m").respond([*said, question], Sampling(**GREEDY)).text
    assert load("pirate").respond([question]).text == expected


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("FROM ./none.gguf", "There is no model file at"),
        ("FROM https://example.com/none.gguf", "There is no model https://example.com/none.gguf"),
        ("FROM http://example.com/none.gguf", "is not encrypted"),
        ("FROM smollm2:135m\nPARAMETER temperature hot", "temperature cannot be 'hot'"),
        ("FROM smollm2:135m\nTEMPLATE [INST] {{ .Prompt }} [/INST]", "writes turns in another way"),
        ("FROM smollm2:135m\nADAPTER ./none.gguf", "There is no model file at"),
    ],
)
def test_a_modelfile_that_cannot_be_followed_is_a_sentence(tmp_path: Path, line: str, why: str) -> None:
    (tmp_path / "Modelfile").write_text(line)
    with pytest.raises(BadInput, match=why):
        change("mine", {}, modelfile=read_modelfile(tmp_path / "Modelfile"))
    assert kept("mine") is None


def test_a_modelfile_reads_no_file_that_it_names_as_text(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "Modelfile").write_text(f"FROM smollm2:135m\nSYSTEM @{tmp_path}/secret\n")
    assert change("mine", {}, modelfile=read_modelfile(tmp_path / "Modelfile")).system == f"@{tmp_path}/secret"


def test_a_go_template_of_the_models_own_turns_is_left_to_the_file(tmp_path: Path) -> None:
    own = '"""<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"""'
    (tmp_path / "Modelfile").write_text(f"FROM smollm2:135m\nTEMPLATE {own}\n")
    assert change("mine", {}, modelfile=read_modelfile(tmp_path / "Modelfile")).template == ""
    (tmp_path / "Modelfile").write_text(f'FROM smollm2:135m\nTEMPLATE """{PLAIN}"""\n')
    assert change("mine", {}, modelfile=read_modelfile(tmp_path / "Modelfile")).template == PLAIN


def test_adapters_are_kept_with_a_name_and_change_what_is_said(tmp_path: Path, load: Load) -> None:
    """Plumbing only: the weights are random."""
    base, adapter = make_tiny.dense(tmp_path / "tiny.gguf"), make_tiny.adapter(tmp_path / "adapter.gguf")
    change("named", {"of": f"{base}+{adapter}"})
    change("keyed", {"of": str(base), "adapters": str(adapter)})
    greedy = Sampling(temperature=0, max_tokens=8, grammar="root ::= [a-z]{8}")
    plain, *adapted = (
        load(name, **options).complete("abc", greedy).text
        for name, options in (
            (str(base), {}),
            (f"{base}+{adapter}", {}),
            (str(base), {"adapters": (str(adapter),)}),
            ("named", {}),
            ("keyed", {}),
        )
    )
    assert len(set(adapted)) == 1 and plain not in adapted
    with pytest.raises(BadInput, match="was made for another model"):
        change("wrong", {"of": f"smollm2:135m+{adapter}"})
    assert kept("wrong") is None


@pytest.mark.parametrize("name", [STARTER, "smollm2:135m"])
def test_a_damaged_record_of_a_models_defaults_is_cleared(name: str) -> None:
    change(STARTER, {"top_k": "3"})
    preset_file(STARTER).write_bytes(b"{")
    with pytest.raises(BadModelFile, match=r"`filbert set NAME --clear` mends it"):
        change(name, {"top_p": "0.5"})
    assert change(name, {"top_p": "0.5"}, clear=True).sampling == {"top_p": 0.5}
    assert store.resolve(name).pulled


def test_what_a_modelfile_says_is_bounded_and_plain(tmp_path: Path) -> None:
    for line in (f"LICENSE {'x' * 2_000_000}", "MESSAGE user a\x1b[2J", "PARAMETER stop a\x1b[2J", "SYSTEM a\x00"):
        (tmp_path / "Modelfile").write_text(f"FROM smollm2:135m\n{line}\n")
        with pytest.raises(BadInput, match=r"is the most|control character"):
            change("mine", {}, modelfile=read_modelfile(tmp_path / "Modelfile"))
    assert kept("mine") is None


def test_a_path_of_broken_bytes_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "bad\udcff.gguf"
    shutil.copy(store.resolve(STARTER).path, path)
    with pytest.raises(BadInput, match="of holds the control character"):
        change("mine", {"of": str(path)})
