"""Images in a conversation, by a tiny model whose projector works and whose eyes mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import filbert
import make_tiny
from filbert.core.errors import BadInput, ContextOverflow
from filbert.core.images import image_part
from filbert.core.messages import Message
from filbert.engine.sampling import Sampling
from filbert.engine.sight import seeing

IMAGE_TOKENS = (make_tiny.IMAGE // make_tiny.PATCH) ** 2


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[filbert.Model]:
    folder = tmp_path_factory.mktemp("eyes")
    path, _ = make_tiny.vision(folder / "eyes.gguf", folder / "mmproj-eyes.gguf")
    with filbert.load(str(path), context=256) as model:
        yield model


def asked(*images: Image.Image) -> Message:
    return Message("user", ({"type": "text", "text": "What?"}, *map(image_part, images)))


def test_each_image_is_counted_into_the_prompt_as_the_engine_counts_it(eyes: filbert.Model) -> None:
    photo = Image.new("RGB", (640, 480), "red")
    blind = eyes.count_tokens([asked()])
    for n_images in (1, 3):
        seen = [asked(*[photo] * n_images)]
        assert eyes.count_tokens(seen) == blind + n_images * IMAGE_TOKENS
        usage = eyes.respond(seen, Sampling(max_tokens=2)).reply().usage
        assert usage.prompt_tokens == blind + n_images * IMAGE_TOKENS


def test_images_that_do_not_fit_are_refused_before_they_are_sent(eyes: filbert.Model) -> None:
    many = asked(*[Image.new("RGB", (28, 28))] * 70)
    with pytest.raises(ContextOverflow, match=r"The prompt has 30\d tokens and the context holds 256"):
        eyes.respond([many], Sampling(max_tokens=2)).reply()


@pytest.mark.parametrize("size", [(1, 1), (1, 2048), (2048, 1), (2048, 2048)], ids=str)
def test_an_image_of_any_shape_is_seen(eyes: filbert.Model, size: tuple[int, int]) -> None:
    reply = eyes.respond([asked(Image.new("RGB", size))], Sampling(max_tokens=2)).reply()
    assert reply.finish.reason == "length"


def test_two_images_are_not_the_same_to_it(eyes: filbert.Model) -> None:
    options = Sampling(temperature=0, max_tokens=8)
    red, noise = Image.new("RGB", (28, 28), "red"), Image.effect_noise((28, 28), 90)
    answers = {eyes.respond([asked(image)], options).reply().text for image in (red, noise)}
    assert len(answers) == 2


def test_a_session_takes_images_and_remembers_them(eyes: filbert.Model, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (28, 28), "red").save(path)
    session = eyes.chat(grammar='root ::= "Red."')
    session.send("What is this?", images=[path]).reply()
    session.send("And these?", images=[path.read_bytes(), Image.new("L", (9, 9))]).reply()
    parts = [part["type"] for message in session.messages for part in message.content if isinstance(part, dict)]
    assert parts == ["image_url", "text", "image_url", "image_url", "text"]


def test_one_image_without_a_list_is_told_so(eyes: filbert.Model) -> None:
    for images in ("a.png", b"GIF89a", Path("a.png"), Image.new("RGB", (8, 8))):
        with pytest.raises(BadInput, match=r"Images are a list\. Write images=\[image\]\."):
            eyes.chat().send("What?", images=images)  # type: ignore[arg-type]


def test_a_model_without_eyes_says_so_and_names_some_that_see(tiny_model: filbert.Model) -> None:
    with pytest.raises(
        BadInput, match=r"dense.gguf cannot see images\. It has no projector\. Take a model that sees: "
    ):
        tiny_model.respond([asked(Image.new("RGB", (8, 8)))])
    with pytest.raises(BadInput, match="cannot see"):
        tiny_model.count_tokens([asked(Image.new("RGB", (8, 8)))])
    assert len(seeing().split(", ")) == 3


def test_only_an_image_of_ours_reaches_the_engine(eyes: filbert.Model) -> None:
    for part in (
        {"type": "image_url", "image_url": {"url": "https://localhost/a.png"}},
        {"type": "image_url", "image_url": {"url": "AAAA"}},
        {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_audio", "input_audio": {"data": "AAAA"}},
        {"type": "text", "text": 3},
        {},
    ):
        with pytest.raises(BadInput, match="holds texts and images"):
            eyes.respond([Message("user", (part,))])


def test_the_engine_may_be_silent_longer_over_images(eyes: filbert.Model) -> None:
    """Of one that is looked at on a slow processor nothing is told for minutes."""
    photo = Image.new("RGB", (28, 28))
    waits = [eyes.prepare_chat([asked(*[photo] * n)], Sampling(max_tokens=1)).more_s for n in (0, 1, 2)]
    assert waits == [0, waits[1], 2 * waits[1]] and waits[1] > 60
