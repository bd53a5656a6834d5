"""Files that go with a question."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import filbert
import make_tiny
from filbert.chat.attach import attach
from filbert.chat.session import question
from filbert.core.errors import BadInput, ContextOverflow

Babbler = Callable[..., filbert.Model]


@pytest.fixture
def eyes(tmp_path: Path) -> Iterator[filbert.Model]:
    folder = tmp_path / "eyes"
    folder.mkdir()
    path, _ = make_tiny.vision(folder / "eyes.gguf", folder / "mmproj-eyes.gguf")
    with filbert.load(str(path), context=512) as model:
        yield model


def test_a_text_goes_with_its_name_between_fences(babbler: Babbler, tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("Über alles\n```\ncode\n```\n", "utf-8")
    attached = attach(path, babbler())
    assert attached.part == {"type": "text", "text": "notes.md:\n````\nÜber alles\n```\ncode\n```\n````"}
    assert attached.description == "notes.md (25 bytes of text)"
    asked = question("Why?", attachments=[attached.part])
    assert asked.to_json()["content"] == attached.part["text"] + "\n\nWhy?"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_text_that_windows_wrote_is_read(babbler: Babbler, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("hé", encoding)
    assert attach(tmp_path / "a.txt", babbler()).part["text"] == "a.txt:\n```\nhé\n```"


def test_an_image_goes_to_a_model_that_sees(eyes: filbert.Model, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    attached = attach(str(tmp_path / "a.jpg"), eyes)
    assert attached.description == "a.jpg (40 x 20 pixels)"
    session = eyes.chat()
    session.messages = [question("What?", attachments=[attached.part])]
    assert session.regenerate().reply().usage.completion_tokens


def test_an_image_for_a_model_that_sees_nothing_is_refused(babbler: Babbler, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"cannot see images.*Take a model that sees"):
        attach(tmp_path / "a.png", babbler())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"%PDF-1.7 ...", "is a PDF, which cannot be read yet"),
        (b"PK\x03\x04...", "is an office document"),
        (b"\xff\xfe\x00", "is neither text nor an image"),
        (b"a\0b", "is neither text nor an image"),
        (b"\x80abc", "is neither text nor an image"),
        (b"\x89PNG\r\n\x1a\n", "is no image that can be read|cannot see"),
    ],
)
def test_what_is_neither_is_refused_in_a_sentence(babbler: Babbler, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(BadInput, match=said):
        attach(tmp_path / "a", babbler())


def test_a_text_longer_than_the_context_is_refused_with_its_tokens(babbler: Babbler, tmp_path: Path) -> None:
    model = babbler()
    (tmp_path / "long.txt").write_text("x" * 300)
    with pytest.raises(ContextOverflow, match=r"long.txt has 300 tokens and the context holds 256\."):
        attach(tmp_path / "long.txt", model)
    (tmp_path / "long.txt").write_text("x" * 100_000)
    with pytest.raises(ContextOverflow, match="100000 bytes"):
        attach(tmp_path / "long.txt", model)


def test_what_never_ends_is_not_opened(babbler: Babbler, tmp_path: Path) -> None:
    model = babbler()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match=r"is no plain file|cannot be read"):
            attach(path, model)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(BadInput, match="huge has more than 50 MB"):
        attach(tmp_path / "huge", model)
