"""The texts that ship: some to calibrate with, others to check with, of which calibration and training see nothing.

Where each is from, and by which licence: `calibration/README.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources

from filbert.compress.imatrix import Text, conversations
from filbert.core.pairs import read_pairs
from filbert.engine.model import Model

CALIBRATION, CHECK = "calibration", "check"


def default_texts(model: Model) -> list[Text]:
    """To calibrate with where nobody names a text: chats, code, Markdown, prose, and many languages."""
    return list(_texts(CALIBRATION, model))


def check_texts(model: Model) -> list[Text]:
    """Four kinds: chat, code, prose and rare scripts."""
    return list(_texts(CHECK, model))


def check_sha256() -> str:
    """Of the check texts as they ship: their names and bytes, one after the other."""
    found = hashlib.sha256()
    for name, text in _files(CHECK):
        found.update(f"{name}\0{text}\0".encode())
    return found.hexdigest()


def _texts(folder: str, model: Model) -> Iterator[Text]:
    """Chats as the model's own template writes them; of a model that has none, one line after the other."""
    for name, text in _files(folder):
        kind, _, ending = name.rpartition(".")
        if ending != "jsonl":
            yield Text(kind.replace("-", " "), text)
        elif model.chat_template:
            yield conversations(model, read_pairs(text, name), kind)
        else:
            yield Text(kind, "\n\n".join(f"{pair.text}\n{pair.response}" for pair in read_pairs(text, name)))


def _files(folder: str) -> list[tuple[str, str]]:
    """(name, text) of each, by name."""
    found = resources.files("filbert.compress") / folder
    names = sorted(file.name for file in found.iterdir() if file.name.endswith((".txt", ".jsonl")))
    return [(name, (found / name).read_text("utf-8")) for name in names]
