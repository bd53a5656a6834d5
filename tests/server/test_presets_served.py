"""Names of people's own, their presets and adapters, as a server offers them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

import make_tiny
from filbert.face.presets import change
from filbert.models import store
from running import until
from running_server import STARTER, RunningServer, install, serving

pytestmark = pytest.mark.usefixtures("stocked")


@pytest.fixture
def served(stocked: Path) -> Iterator[RunningServer]:
    """It offers what is here when it is asked, so presets may follow."""
    with serving(stocked, "--parallel", "1") as running:
        yield running


def said(server: RunningServer, *messages: tuple[str, str], **fields: Any) -> Any:
    whole = [{"role": role, "content": content} for role, content in messages]
    return server.openai.chat.completions.create(messages=whole, **fields)  # type: ignore[call-overload]


def test_a_name_of_ones_own_is_offered_as_what_it_is(served: RunningServer) -> None:
    change("gpt-4o", {"of": "smollm2:135m"})
    listed = {model.id: model.model_dump().get("stands_for") for model in served.openai.models.list().data}
    assert listed == {"gpt-4o": STARTER, STARTER: None}
    assert served.openai.models.retrieve("gpt-4o").model_dump()["stands_for"] == STARTER
    with pytest.raises(openai.NotFoundError, match="There is no model gpt-4"):
        served.openai.models.retrieve("gpt-4")


def test_a_model_stays_in_memory_as_its_preset_says_where_the_request_does_not(served: RunningServer) -> None:
    def left_s() -> float:
        """Until the model is unloaded, after a request of OpenAI's."""
        said(served, ("user", "Hi"), model="mine", max_tokens=1, extra_body={"keep_alive": 1})
        (found,) = served.http.get("/api/ps").json()["models"]
        return (datetime.fromisoformat(found["expires_at"]) - datetime.now(UTC)).total_seconds()

    change("mine", {"of": STARTER, "keep_alive": "2h"})
    assert 6000 < left_s() <= 7200
    change("mine", {"keep_alive": "3h"})
    assert 9000 < left_s() <= 10800
    change("mine", {"keep_alive": ""})
    assert 0 < left_s() <= 300
    wish = {"model": "mine", "prompt": "Hi", "stream": False, "options": {"num_predict": 1}, "keep_alive": 0}
    assert served.http.post("/api/generate", json=wish).status_code == 200
    assert until(lambda: served.http.get("/api/ps").json()["models"] == [])


@pytest.mark.slow
def test_a_request_is_answered_as_the_preset_says_and_its_own_fields_win(served: RunningServer) -> None:
    change(
        "gpt-4o",
        {"of": STARTER, "context": "512", "system": "You are a pirate.", "temperature": "0", "max_tokens": "6"},
    )
    greedy = {"temperature": 0, "max_tokens": 6}
    pirate, hi = ("system", "You are a pirate."), ("user", "Who are you?")
    answer = said(served, hi, model="gpt-4o")
    plain = said(served, pirate, hi, model=STARTER, **greedy)
    assert answer.model == "gpt-4o"
    assert answer.choices[0].message.content == plain.choices[0].message.content
    assert answer.usage.prompt_tokens == plain.usage.prompt_tokens
    assert said(served, hi, model="gpt-4o", max_tokens=2).usage.completion_tokens == 2
    nurse = said(served, ("system", "You are a nurse."), hi, model="gpt-4o")
    assert (
        nurse.usage.prompt_tokens
        == said(served, ("system", "You are a nurse."), hi, model=STARTER, **greedy).usage.prompt_tokens
    )
    text = [
        served.openai.completions.create(model=name, prompt="Once", **greedy).choices[0].text
        for name in ("gpt-4o", STARTER)
    ]
    assert text[0] == text[1]


def test_a_preset_that_changes_counts_at_the_next_request(served: RunningServer) -> None:
    change("mine", {"of": STARTER, "max_tokens": "3", "temperature": "0", "context": "512"})
    assert said(served, ("user", "Count to ten."), model="mine").usage.completion_tokens == 3
    worker = served.worker().pid
    change("mine", {"max_tokens": "5"})
    assert said(served, ("user", "Count to ten."), model="mine").usage.completion_tokens == 5
    assert served.worker().pid == worker
    change("mine", {"context": "256"})
    assert said(served, ("user", "Count to ten."), model="mine").usage.completion_tokens == 5
    assert served.worker().pid != worker


def test_a_name_whose_model_is_gone_is_a_sentence(served: RunningServer) -> None:
    change("mine", {"of": STARTER})
    store.remove(STARTER)
    with pytest.raises(openai.NotFoundError, match=f"mine stands for {STARTER}, which is not here any more"):
        said(served, ("user", "Hi"), model="mine")


def test_names_of_ones_own_and_files_with_adapters_are_loaded_at_the_start(stocked: Path, tmp_path: Path) -> None:
    tiny, adapter = make_tiny.dense(tmp_path / "tiny.gguf"), make_tiny.adapter(tmp_path / "my-adapter.gguf")
    change("mine", {"of": str(tiny), "context": "256"})
    with serving(stocked, "-m", "mine", "-m", f"{tiny}+{adapter}") as server:
        listed = {model.id: model.model_dump().get("stands_for") for model in server.openai.models.list().data}
        assert listed == {"tiny+my-adapter": None, "mine": "tiny.gguf", STARTER: None}
        for name in ("mine", "tiny+my-adapter"):
            assert said(server, ("user", "Hi"), model=name, max_tokens=2).model == name


@pytest.fixture
def adapted(stocked: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """A tiny model of random weights and an adapter for it, both installed."""
    install(stocked, make_tiny.dense(tmp_path / "tiny.gguf"), "tiny:1m", "a" * 64)
    install(stocked, make_tiny.adapter(tmp_path / "adapter.gguf"), "my-adapter", "b" * 64, "adapter")
    with serving(stocked, "--context", "512") as running:
        yield running


def letters(server: RunningServer, name: str, **fields: Any) -> str:
    """What a model goes on with: eight letters, the likeliest."""
    body = {"model": name, "prompt": "abc", "temperature": 0, "max_tokens": 8, "grammar": "root ::= [a-z]{8}"}
    answer = server.http.post("/v1/completions", json={**body, **fields})
    assert answer.status_code == 200 and answer.json()["model"] == name, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_a_base_with_an_adapter_is_asked_for_by_name_and_never_by_path(adapted: RunningServer, tmp_path: Path) -> None:
    change("tuned", {"of": "tiny:1m+my-adapter"})
    kinds = {model.id: model.model_dump()["kind"] for model in adapted.openai.models.list().data}
    assert kinds == {STARTER: "language", "my-adapter": "adapter", "tiny:1m": "language", "tuned": "language"}
    assert adapted.openai.models.retrieve("tiny:1m+my-adapter").id == "tiny:1m+my-adapter"
    base = letters(adapted, "tiny:1m")
    assert base != letters(adapted, "tiny:1m+my-adapter") == letters(adapted, "tuned")
    with pytest.raises(openai.NotFoundError, match=r"adapter my-adaptr\. Did you mean my-adapter"):
        said(adapted, ("user", "Hi"), model="tiny:1m+my-adaptr")
    with pytest.raises(openai.NotFoundError):
        said(adapted, ("user", "Hi"), model=f"tiny:1m+{tmp_path / 'adapter.gguf'}")
    with pytest.raises(openai.BadRequestError, match="was made for another model"):
        said(adapted, ("user", "Hi"), model=f"{STARTER}+my-adapter")
    with pytest.raises(openai.BadRequestError, match="an adapter is named after it"):
        said(adapted, ("user", "Hi"), model="my-adapter")


def test_nothing_of_a_request_reaches_the_adapters_but_the_name(adapted: RunningServer) -> None:
    """The engine's own field would take one away, or put it upon others' answers."""
    wish = {"lora": [{"id": 0, "scale": 0.0}]}
    body = {"model": "tiny:1m+my-adapter", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    for route in ("/v1/chat/completions", "/v1/completions"):
        answer = adapted.http.post(route, json={**body, "prompt": "abc", **wish})
        assert answer.status_code == 400 and "lora" in answer.text
    ollama = {"model": "tiny:1m+my-adapter", "prompt": "abc", "raw": True, "stream": False}
    options = {"temperature": 0, "num_predict": 8}
    plain, wished = (
        adapted.http.post("/api/generate", json={**ollama, **more}).json()["response"]
        for more in ({"options": options}, {"options": {**options, **wish}, **wish})
    )
    assert plain == wished


def test_ollamas_clients_make_a_name_of_a_base_and_adapters(adapted: RunningServer) -> None:
    for name, adapters in (
        ("by-name", {"my-adapter": ""}),
        ("by-digest", {"ada.gguf": f"sha256:{'b' * 64}"}),
    ):
        body = {"model": name, "from": "tiny:1m", "adapters": adapters, "stream": False}
        assert adapted.http.post("/api/create", json=body).json() == {"status": "success"}
        shown = adapted.http.post("/api/show", json={"model": name}).json()
        assert shown["modelfile"].startswith("FROM tiny:1m\nADAPTER my-adapter\n")
        assert letters(adapted, name) == letters(adapted, "tiny:1m+my-adapter")
    for base, adapters, status in (
        ("tiny:1m", {"my-adaptr": ""}, 404),
        ("tiny:1m", {"tiny:1m": ""}, 404),
        (STARTER, {"my-adapter": ""}, 400),
    ):
        answer = adapted.http.post("/api/create", json={"model": "none", "from": base, "adapters": adapters})
        assert answer.status_code == status, answer.text
