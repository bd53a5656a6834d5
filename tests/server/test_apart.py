"""What one key asked is not to be found out by another: by cached tokens or by guesses, in any protocol."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import filbert
import make_tiny
from filbert.server.keys import Keys, Wanted
from running_server import RunningServer, documents, install, serving

TINY = "tiny:1m"
NAMES = ("ada", "bob", "eve")
CHAT = "/v1/chat/completions"
UNSEEN = "".join(random.Random(1).choices(string.ascii_letters, k=97))  # nothing of it to be guessed from itself


class Asked:
    """A server of a tiny model, and who asks it. The name "" brings no key."""

    def __init__(self, home: Path, names: tuple[str, ...]) -> None:
        self.home = home
        tiny = make_tiny.dense(home / "tiny.gguf", metadata={"llama.context_length": 8192})
        install(home, tiny, TINY, "a" * 64)
        keys = Keys(f"sqlite:///{home / 'keys.db'}")
        self.texts = {name: keys.add(Wanted(name))[1] for name in names}
        keys.close()
        self.server: RunningServer

    def ask(self, name: str, route: str, **body: Any) -> Any:
        headers = {"x-api-key": self.texts[name]} if name else {}
        answer = self.server.http.post(route, json={"model": TINY, **body}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def knows(self, name: str, text: str, *more: str, **fields: Any) -> bool:
        """Whether a chat's prompt was there already."""
        messages = [{"role": "user", "content": each} for each in (text, *more)]
        usage = self.ask(name, CHAT, messages=messages, **{"max_tokens": 2, **fields})["usage"]
        return is_known(usage["prompt_tokens_details"]["cached_tokens"])

    def guesses(self, name: str) -> bool:
        """Whether the engine guessed of an answer that can only be one."""
        body = {"model": TINY, "prompt": UNSEEN[::-1], "grammar": f'root ::= "{UNSEEN}"', "stream": True}
        headers = {"x-api-key": self.texts[name]}
        with self.server.http.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
            told = list(documents(answer.iter_lines()))
        assert "".join(each["choices"][0]["text"] for each in told if each["choices"]) == UNSEEN
        return "draft_n" in told[-1]["timings"]


def is_known(cached: int) -> bool:
    """All of a thousand tokens, or none: but for what all chats of the same owner begin with."""
    assert cached > 950 or cached < 50
    return cached > 50


@contextmanager
def asked(home: Path, *names: str, flags: tuple[str, ...] = ()) -> Iterator[Asked]:
    home.mkdir(exist_ok=True)
    found = Asked(home, names)
    with serving(home, "--context", "8192", "--parallel", "2", *flags) as found.server:
        yield found


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Of three keys and of nobody's, two answered at once."""
    with asked(tmp_path_factory.mktemp("crowd"), *NAMES, flags=("--speculation", "auto")) as found:
        yield found


def prompt(letter: str) -> str:
    """A thousand tokens; no two prompts begin alike."""
    return letter * 1000


def test_the_same_prompt_is_new_for_each_key_and_known_to_whoever_asked_it_last(crowd: Asked) -> None:
    assert [crowd.knows(name, prompt("a")) for name in ("ada", "bob", "")] == [False, False, False]
    assert [crowd.knows(name, prompt("a"), "more") for name in ("bob", "", "eve")] == [True, True, False]


def test_who_asks_in_turn_with_another_goes_on_where_it_was(crowd: Asked) -> None:
    for turn in range(3):
        found = [crowd.knows(name, prompt("b"), *["more"] * turn) for name in ("ada", "bob")]
        assert found == [turn > 0, turn > 0]


def test_it_holds_in_every_protocol(crowd: Asked) -> None:
    messages = [{"role": "user", "content": prompt("c")}]

    def through_responses(name: str) -> bool:
        usage = crowd.ask(name, "/v1/responses", input=prompt("c"), max_output_tokens=2)["usage"]
        return is_known(usage["input_tokens_details"]["cached_tokens"])

    def through_messages(name: str) -> bool:
        usage = crowd.ask(name, "/v1/messages", messages=messages, max_tokens=2)["usage"]
        return is_known(usage["cache_read_input_tokens"])

    ollama = {"stream": False, "options": {"num_predict": 2}}
    crowd.ask("ada", "/api/generate", prompt=prompt("c"), **ollama)
    assert [through_responses("bob"), through_messages("eve")] == [False, False]
    assert [through_messages("bob"), through_responses("eve")] == [True, True]
    crowd.ask("", "/api/chat", messages=messages, **ollama)
    assert [crowd.knows("ada", prompt("c")) for _ in range(2)] == [False, True]


def test_it_holds_for_text_that_is_gone_on_from_for_several_answers_and_without_guesses(crowd: Asked) -> None:
    def goes_on(name: str) -> bool:
        usage = crowd.ask(name, "/v1/completions", prompt=prompt("d"), max_tokens=2)["usage"]
        return is_known(usage["prompt_tokens_details"]["cached_tokens"])

    assert [goes_on(name) for name in ("ada", "ada", "bob", "eve")] == [False, True, False, False]
    for fields in ({"n": 2}, {"seed": 1}):
        for name in ("ada", "bob"):
            assert [crowd.knows(name, prompt("e"), **fields) for _ in range(2)] == [False, True]


def test_of_what_another_key_was_answered_nothing_is_guessed(crowd: Asked) -> None:
    assert [crowd.guesses(name) for name in ("ada", "bob")] == [False, False]


def test_who_ask_at_once_are_all_answered_and_none_finds_what_another_asked(crowd: Asked) -> None:
    def ask(number: int) -> bool:
        return crowd.knows(NAMES[number % 3], prompt("xyz"[number // 3]))

    with ThreadPoolExecutor(9) as threads:
        assert not any(threads.map(ask, range(9)))


def test_the_command_line_is_an_owner_as_the_keys_are(crowd: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(crowd.home))
    with filbert.load(TINY) as model:
        assert "by the running server" in model.summary

        def knows() -> bool:
            return is_known(model.generate(prompt("h"), max_tokens=2).reply().usage.cached_tokens)

        assert not crowd.knows("ada", prompt("h"))
        assert [knows(), knows()] == [False, True]
        assert not crowd.knows("bob", prompt("h"))


@pytest.mark.slow
def test_for_one_owner_the_engine_remembers_as_ever_until_a_second_one_asks(tmp_path: Path) -> None:
    with asked(tmp_path / "one", "ada", flags=("-m", TINY)) as one:
        worker = one.server.worker().pid
        for known in (False, True):
            assert [one.knows("ada", prompt(letter)) for letter in "abc"] == [known] * 3  # and two slots
        assert one.server.worker().pid == worker
        assert not one.knows("", prompt("a"))
        assert one.server.worker().pid != worker
        assert [one.knows(name, prompt("a")) for name in ("ada", "ada", "")] == [False, True, True]


def test_whoever_starts_the_server_may_let_all_share_what_is_remembered(tmp_path: Path) -> None:
    flags = ("--share-cache", "--speculation", "auto")
    with asked(tmp_path / "shared", "ada", "bob", flags=flags) as both:
        assert [both.knows(name, prompt("i")) for name in ("ada", "bob")] == [False, True]
        assert [both.guesses(name) for name in ("ada", "bob")] == [False, True]
