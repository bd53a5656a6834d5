"""Names of people's own, their presets and adapters, as a server offers them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from running_server import STARTER, RunningServer, install, serving

import make_tiny
from filbert.face.presets import change
from filbert.models import store

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


def test_a_base_with_an_adapter_is_asked_for_by_name_and_never_by_path(stocked: Path, tmp_path: Path) -> None:
    """Plumbing only: the weights are random."""
    tiny, adapter = make_tiny.dense(tmp_path / "tiny.gguf"), make_tiny.adapter(tmp_path / "adapter.gguf")
    for name, path, folder in (("tiny:1m", tiny, "a" * 64), ("my-adapter", adapter, "b" * 64)):
        target = stocked / "models" / "files" / folder
        assert not target.exists()
        install(stocked, path, name, folder)
    change("tuned", {"of": "tiny:1m+my-adapter"})
    with serving(stocked, "--context", "512") as server:
        base, adapted, tuned = (
            server.openai.completions.create(
                model=name, prompt="abc", temperature=0, max_tokens=8, extra_body={"grammar": "root ::= [a-z]{8}"}
            )
            for name in ("tiny:1m", "tiny:1m+my-adapter", "tuned")
        )
        assert base.choices[0].text != adapted.choices[0].text == tuned.choices[0].text
        assert adapted.model == "tiny:1m+my-adapter"
        for name in (f"tiny:1m+{adapter}", f"{STARTER}+none"):
            with pytest.raises(openai.NotFoundError):
                said(server, ("user", "Hi"), model=name)
        with pytest.raises(openai.BadRequestError, match="was made for another model"):
            said(server, ("user", "Hi"), model=f"{STARTER}+my-adapter")
