"""A file that goes with a question: a text as text, an image as an image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filbert.core.errors import BadInput, ContextOverflow
from filbert.core.files import read_plain_file, size
from filbert.core.images import MOST_BYTES, image_part, is_image, pixels
from filbert.engine.bounds import more_room, need_context, text_bound
from filbert.engine.model import Model
from filbert.engine.sight import need_sight_of

DOCUMENTS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "an office document or archive",
    b"\xd0\xcf\x11\xe0": "an office document",
}
BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """part: of a message's content, in OpenAI's shape. description: for a person, "notes.txt (2 kB of text)"."""

    part: Mapping[str, Any]
    description: str


def attach(path: str | Path, model: Model) -> Attachment:
    """What goes with the next question. Raises BadInput for a file that is neither text nor an image, or an image that
    the model cannot see, and ContextOverflow for a text longer than the model's context."""
    path = Path(path).expanduser()
    data = read_plain_file(path, MOST_BYTES)
    if is_image(data):
        need_sight_of(model.stored)
        part = image_part(data, path.name)
        width, height = pixels(part)
        return Attachment(part, f"{path.name} ({width} x {height} pixels)")
    text = _text(data, path.name)
    _need_room(text, path.name, model)
    return Attachment(
        {"type": "text", "text": f"{path.name}:\n{_fenced(text)}"}, f"{path.name} ({size(len(data))} of text)"
    )


def _text(data: bytes, name: str) -> str:
    document = next((kind for mark, kind in DOCUMENTS.items() if data.startswith(mark)), "")
    if document:
        raise BadInput(f"{name} is {document}, which cannot be read yet.", do="Save it as plain text.")
    try:
        text = data.decode(BYTE_ORDER_MARKS.get(data[:2], "utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise _neither(name) from exc
    if "\0" in text:
        raise _neither(name)
    if not text.strip():
        raise BadInput(f"{name} is empty.", do="Take another file.")
    return text


def _neither(name: str) -> BadInput:
    return BadInput(
        f"{name} is neither text nor an image.",
        why="Texts are UTF-8; images are PNG, JPEG, WebP, GIF or BMP.",
        do="Save it as one of these.",
    )


def _need_room(text: str, name: str, model: Model) -> None:
    """Raises ContextOverflow. The tokens are counted only where there may be too many."""
    trained = model.header.context_length
    need_context(len(text.encode()), model.context, trained)
    if text_bound(text) > model.context and (tokens := len(model.tokenize(text))) >= model.context:
        raise ContextOverflow(
            f"{name} has {tokens} tokens and the context holds {model.context}.", do=more_room(model.context, trained)
        )


def _fenced(text: str) -> str:
    """Between fences that the text does not hold itself."""
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"
