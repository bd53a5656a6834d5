"""Thought and images over HTTP, by tiny random models: the plumbing, never the quality of an answer."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import openai
import pytest
from PIL import Image

from filbert.core.images import MOST_PIXELS
from running_server import RunningServer

THOUGHT = 'root ::= "Two and two.</think>Four."'  # the template's prompt opens the thought


def ask(server: RunningServer, **fields: Any) -> Any:
    name = server.openai.models.list().data[0].id
    return server.chat("2 + 2?", **{"model": name, "max_tokens": 64, **fields})


def test_a_thought_is_a_field_of_its_own_and_counted(thinker: RunningServer) -> None:
    whole = ask(thinker, extra_body={"grammar": THOUGHT, "think": "on"})
    assert (whole.choices[0].message.content, whole.choices[0].message.reasoning_content) == ("Four.", "Two and two.")
    usage = whole.usage
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_a_stream_tells_the_thought_first_and_its_tokens_at_the_end(thinker: RunningServer) -> None:
    asked = {"grammar": THOUGHT, "think": "on"}
    chunks = list(ask(thinker, stream=True, stream_options={"include_usage": True}, extra_body=asked))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == "Two and two." and "".join(delta.content or "" for delta in deltas) == "Four."
    first_said = next(i for i, delta in enumerate(deltas) if delta.content)
    assert not any(thoughts[first_said:])
    assert 9 <= chunks[-1].usage.completion_tokens_details.reasoning_tokens <= len("Two and two.")
    assert [bool(chunk.model_extra.get("timings")) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


@pytest.mark.parametrize(
    "wish",
    [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}, {"think": "off"}],
    ids=str,
)
def test_thought_is_left_out_by_every_name_clients_have_for_it(thinker: RunningServer, wish: dict[str, Any]) -> None:
    thinking, answering = (ask(thinker, max_tokens=1, extra_body=w).usage.prompt_tokens for w in ({}, wish))
    assert answering > thinking  # the template closes the thought in the prompt


def test_a_model_that_does_not_think_passes_over_hints_and_refuses_a_wish(eyes: RunningServer) -> None:
    for hint in ({"reasoning_effort": "high"}, {"chat_template_kwargs": {"enable_thinking": True}}):
        assert ask(eyes, max_tokens=1, extra_body=hint).choices
    with pytest.raises(openai.BadRequestError, match="cannot think before it answers"):
        ask(eyes, extra_body={"think": "high"})


def test_a_thought_that_comes_back_is_no_part_of_later_turns(thinker: RunningServer) -> None:
    name = thinker.openai.models.list().data[0].id
    told = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "?"}]
    sizes = []
    for thought in ("", "A long thought that is not shown again. " * 5):
        told[1]["reasoning_content"] = thought
        answer = thinker.openai.chat.completions.create(model=name, messages=told, max_tokens=1)  # type: ignore[arg-type]
        sizes.append(answer.usage.prompt_tokens)  # type: ignore[union-attr]
    assert sizes[0] == sizes[1]


def see(server: RunningServer, url: str) -> Any:
    name = server.openai.models.list().data[0].id
    parts: Any = [{"type": "text", "text": "2 + 2?"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
    return server.openai.chat.completions.create(
        model=name, max_tokens=2, messages=[{"role": "user", "content": parts}]
    )


def address(image: Image.Image, format: str = "PNG") -> str:
    file = BytesIO()
    image.save(file, format)
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_is_seen(eyes: RunningServer, format: str) -> None:
    blind = ask(eyes, max_tokens=1).usage.prompt_tokens
    assert (
        see(eyes, address(Image.new("RGB", (40, 30), "red"), format)).usage.prompt_tokens == blind + 4
    )  # 2 x 2 patches


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost:1/a.png", "nothing is fetched.*filbert serve --fetch-images"),
        ("file:///etc/hostname", "nothing is fetched"),
        ("data:image/png;base64,AAAA", "no image"),
        ("data:image/png;base64,!", "base64"),
        (address(Image.new("1", (10_000, MOST_PIXELS // 10_000 + 1))), "megapixels"),
    ],
    ids=["address", "file", "no image", "no base64", "64 megapixels and more"],
)
def test_what_is_no_image_is_refused_and_nothing_is_fetched(eyes: RunningServer, url: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        see(eyes, url)
    assert ask(eyes, max_tokens=1).choices


def test_an_image_for_a_model_that_sees_nothing_is_refused_with_some_that_do(thinker: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError, match=r"cannot see images.*Take a model that sees"):
        see(thinker, address(Image.new("RGB", (8, 8))))
