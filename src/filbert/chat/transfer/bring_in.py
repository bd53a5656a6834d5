"""A file of chats, whatever wrote it, into the history. To import it again adds what is new, and nothing twice."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import ijson

from filbert.chat.history import History
from filbert.chat.record import Chat
from filbert.chat.transfer import chatgpt, gpt4all, json_export
from filbert.core.errors import BadInput
from filbert.core.jobs import Job, Progress

BATCH, BATCH_LETTERS = 50, 16 << 20  # a transaction has no more chats, and not much more of what was said
MOST_DEPTH = 100
PIECE_BYTES = 1 << 20  # in smaller ones a text of many megabytes is copied too often
HEAD = rb'\s*\{\s*"format"\s*:\s*"filbert-chats"\s*,\s*"version"\s*:\s*(\d{1,6})\D'


@dataclass(slots=True)
class Imported:
    """What was new, and a sentence for each thing that was left out."""

    chats: int = 0  # read
    messages: int = 0  # new
    problems: list[str] = field(default_factory=list)


Chats = Generator[Progress | Chat, None, None]


def bring_in(path: Path, history: History) -> Job[Imported]:
    """A .chat file of GPT4All or a folder of them, ChatGPT's conversations.json or zip, or our own JSON. Raises
    BadInput when nothing can be read of it."""
    done = Imported()
    batch: list[Chat] = []
    letters = 0
    for item in _chats_of(path, done.problems):
        if isinstance(item, Progress):
            yield item
            continue
        batch.append(item)
        letters += item.letters
        if len(batch) == BATCH or letters > BATCH_LETTERS:
            letters = 0
            _keep(batch, history, done)
    _keep(batch, history, done)
    if not done.chats:
        raise BadInput(
            f"{path} holds no chat that can be read.",
            why=" ".join(done.problems[:1]),
            do="Export it again, or give another.",
        )
    return done


def _keep(batch: list[Chat], history: History, done: Imported) -> None:
    done.chats += len(batch)
    done.messages += history.merge_all(batch)
    batch.clear()


def _chats_of(path: Path, problems: list[str]) -> Chats:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(".chat"))
        for place, file in enumerate(files):
            yield Progress(f"importing {path.name}", place, len(files), "files")
            yield from _named(file.name, _chats_in(file, problems), problems)
        return
    yield from _chats_in(path, problems)


def _named(name: str, chats: Chats, problems: list[str]) -> Chats:
    """One file of many that cannot be read is told, and the others are read."""
    try:
        yield from chats
    except BadInput as exc:
        problems.append(f"{name}: {exc}")


def _chats_in(path: Path, problems: list[str]) -> Chats:
    with _opened(path) as file:
        if gpt4all.is_gpt4all(file, path.name):
            chat, whole = gpt4all.read_chat(file)
            if not whole:
                problems.append(f"{path.name} is damaged: {len(chat.said)} messages of it were read.")
            yield chat
        elif _starts_with(file, b"PK"):
            yield from _zipped(file, path.name, problems)
        else:
            yield from _streamed(file, path.name, path.stat().st_size, chatgpt.no_picture, problems)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Raises BadInput."""
    try:
        if not path.is_file() and path.exists():  # a pipe would never end
            raise BadInput(f"{path} cannot be read.", why="It is no plain file.", do="Give the exported file.")
        file = path.open("rb")
    except OSError as exc:
        raise BadInput(f"{path} cannot be read.", why=f"{exc.strerror}.", do="Check the path.") from exc
    with file:
        yield file


def _starts_with(file: BinaryIO, magic: bytes) -> bool:
    first = file.read(len(magic))
    file.seek(0)
    return first == magic


def _zipped(file: BinaryIO, name: str, problems: list[str]) -> Chats:
    archive, entries = chatgpt.zipped(file)
    with archive:
        picture = chatgpt.pictures_of(archive)
        for entry in entries:
            try:
                with archive.open(entry) as inner:
                    yield from _streamed(cast(BinaryIO, inner), name, entry.file_size, picture, problems)
            except chatgpt.DAMAGED as exc:
                raise BadInput(
                    f"{entry.filename} in {name} cannot be read.", why=f"{exc}.", do="Export it again."
                ) from exc


def _streamed(file: BinaryIO, name: str, size_bytes: int, picture: chatgpt.Picture, problems: list[str]) -> Chats:
    """JSON, one chat at a time. What comes before a cut is kept."""
    ours = _is_ours(file, name)
    bounded = chatgpt.Bounded(file)
    try:
        for told in _listed(bounded, "chats" if ours else ""):
            bounded.began = bounded.total
            try:
                yield json_export.chat_of(told) if ours else chatgpt.chat_of(told, picture)
            except BadInput as exc:
                problems.append(str(exc))
            yield Progress(f"importing {name}", bounded.total, size_bytes, "bytes")
    except (ijson.JSONError, UnicodeDecodeError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        problems.append(f"{name} is cut or damaged before byte {bounded.total}: {reason}.")


def _listed(file: chatgpt.Bounded, name: str) -> Iterator[object]:
    """The items of the list that a JSON file is, or of the list `name` in it. ijson's own `items` spells out the way to
    each value, which a million open brackets make as long as the memory is large. Raises BadInput."""
    level, depth, key = (2 if name else 1), 0, ""
    builder: ijson.common.ObjectBuilder | None = None
    for event, value in ijson.basic_parse(file, buf_size=PIECE_BYTES, use_float=True):
        depth -= event.startswith("end_")
        begins = depth == level and key == name and not event.startswith("end_") and event != "map_key"
        builder = builder or (ijson.common.ObjectBuilder() if begins else None)
        if builder:
            builder.event(event, value)
        depth += event.startswith("start_")
        if depth > MOST_DEPTH:
            raise BadInput("The file is nested too deep.", do="Give a file that a chat program exported.")
        if event == "map_key" and depth == 1:
            key = value
        if builder and depth == level:
            yield builder.value
            builder = None


def _is_ours(file: BinaryIO, name: str) -> bool:
    """By its head, which our export writes first; ChatGPT's begins with a list. Raises BadInput for any other."""
    head = file.read(200)
    file.seek(0)
    if head.lstrip().startswith(b"["):
        return False
    found = re.match(HEAD, head)
    if not found:
        raise BadInput(
            f"{name} is no file of chats that Filbert knows.",
            do="Give GPT4All's .chat files, ChatGPT's conversations.json or zip, or what `filbert chats export` wrote.",
        )
    if int(found[1]) > json_export.VERSION:
        raise BadInput(f"{name} was written by a newer Filbert.", do="Upgrade Filbert.")
    return True
