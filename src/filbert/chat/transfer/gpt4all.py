"""GPT4All's chats: one binary .chat file each, of any version from before the first number to 12.

As its own source reads them (gpt4all-chat/src: chatlistmodel.cpp, chat.cpp, chatllm.cpp, chatmodel.cpp, tool.cpp): what
its models kept in memory is skipped; documents and files go with the question; thoughts and calls of version 12 become
thoughts and calls here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from filbert.chat.record import Chat, Said, new_id, title_of
from filbert.chat.transfer.qt_stream import Ended, Malformed, QtStream
from filbert.core.errors import BadInput
from filbert.core.messages import Message

MAGIC, NEWEST = 0xF5D553CC, 12
MOST_DEPTH = 8  # the app itself makes three
KINDS = ("System", "Prompt", "Response", "Text", "ToolCall", "ToolResponse", "Think")
UNNAMED = ("", "New Chat")
THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)
SOURCE_TEXTS = ("collection", "path", "file", "title", "author", "date", "text")
SOURCE_NUMBERS = ("page", "from", "to")


@dataclass(slots=True)
class Item:
    """One entry of the app's list: a question, an answer, or a part of an answer."""

    kind: str
    value: str = ""
    stopped: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    attached: list[tuple[str, bytes]] = field(default_factory=list)
    call: dict[str, Any] = field(default_factory=dict)
    parts: list[Item] = field(default_factory=list)


def is_gpt4all(file: BinaryIO, name: str) -> bool:
    """By the first bytes; the oldest files have only their ending to know them by."""
    first = file.read(8)
    file.seek(0)
    return first[:4] == MAGIC.to_bytes(4) or (name.endswith(".chat") and first[:4] == bytes(4) and len(first) == 8)


def read_chat(file: BinaryIO) -> tuple[Chat, bool]:
    """The chat, and whether it is whole: of a file that is cut, what stands before the cut. Raises BadInput when
    nothing can be read of it."""
    stream = QtStream(file)
    version = _version(stream, file)
    try:
        chat = _head(stream, version)
    except Ended as exc:
        raise BadInput(
            "Nothing can be read of it.", why="The file is cut before its first message.", do="Take an older copy."
        ) from exc
    items: list[Item] = []
    try:
        for _ in range(max(0, stream.integer())):
            items.append(_item(stream, version))
        whole = stream.at_end
    except (Ended, Malformed) as exc:
        if not items:
            raise BadInput("Nothing can be read of it.", why=str(exc), do="Take an older copy.") from exc
        whole = False
    if not items:
        raise BadInput("It has no message.", do="Choose another chat.")
    _tell(chat, _sources_with_questions(items) if version < 11 else items)
    return chat, whole


def _version(stream: QtStream, file: BinaryIO) -> int:
    """0 for files from before there was a number, which begin with their date."""
    if file.read(4) != MAGIC.to_bytes(4):
        file.seek(0)
        return 0
    file.seek(0)
    stream.skip(4)
    version = stream.integer()
    if not 1 <= version <= NEWEST:
        raise BadInput(
            f"It has version {version} of GPT4All's format.", why=f"Known are 1 to {NEWEST}.", do="Upgrade Filbert."
        )
    return version


def _head(stream: QtStream, version: int) -> Chat:
    seconds = int(stream.number(">q"))
    id, name, _, model = (stream.text() for _ in range(4))
    if version >= 3:
        stream.texts()  # folders of documents that were switched on
    if version < 11:
        _skip_state(stream, version)
    try:
        created = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        raise Malformed("Its date is none.") from None
    title = "" if name in UNNAMED else " ".join(name.split())
    return Chat(new_id(), title, model, created=created, updated=created, source=f"gpt4all:{id}")


def _skip_state(stream: QtStream, version: int) -> None:
    """What the model had in memory; only its lengths matter."""
    kept = stream.flag() if version >= 6 else True
    if version >= 2:
        stream.integer()  # family of the model
        if stream.integer():
            raise Malformed("The state of its model has an unknown version.")
    stream.text(), stream.text(), stream.integer()
    if not kept:
        return
    stream.skip(4 * ((version < 4) + 1 + (version >= 7)))
    if version < 9:
        stream.skip(4 * int(stream.number(">Q")))
    stream.skip(4 * int(stream.number(">Q")))
    stream.skip_data()


def _item(stream: QtStream, version: int) -> Item:
    if version < 12:
        stream.integer()
    item = Item(_kind(stream), stream.text())
    if version < 10:
        stream.text()
    _note(item, "new_response", stream.text())
    stream.flag()
    item.stopped = stream.flag()
    _note(item, "thumbs_up", stream.flag())
    _note(item, "thumbs_down", stream.flag())
    if version >= 11 and item.kind == "Response":
        _note(item, "error", stream.flag())
    if version >= 8:
        item.sources = [_source(stream) for _ in range(stream.count())]
    elif version >= 3:
        item.sources = _references(stream)
    if version >= 10:
        item.attached = [(stream.data().decode("utf-8", "replace"), stream.data()) for _ in range(stream.count())]
    if version >= 12:
        item.parts = _parts(stream)
    return item


def _kind(stream: QtStream) -> str:
    name = stream.text()
    if name.removesuffix(": ") not in KINDS:
        raise Malformed("A message in the file is of no known kind.")
    return name.removesuffix(": ")


def _note(item: Item, name: str, value: object) -> None:
    if value:
        item.notes[name] = value


def _source(stream: QtStream) -> dict[str, Any]:
    texts = {name: stream.text() for name in SOURCE_TEXTS}
    return {**texts, **{name: stream.integer() for name in SOURCE_NUMBERS}}


def _references(stream: QtStream) -> list[dict[str, Any]]:
    """Before version 8: a line about each document, and the texts."""
    lines = [line for line in stream.text().split("\n") if line.strip() and not line.strip().startswith("---")]
    return [{"reference": line, "text": text} for line, text in zip(lines, stream.texts(), strict=False)]


def _parts(stream: QtStream, depth: int = 1) -> list[Item]:
    """Of an answer: texts, thoughts, calls, what calls gave."""
    if depth > MOST_DEPTH:
        raise Malformed("A message in the file is too deep.")
    parts = []
    for _ in range(stream.count()):
        part = Item(_kind(stream), stream.text())
        if part.kind in ("System", "Prompt"):
            raise Malformed("A question stands inside an answer.")
        if part.kind == "ToolCall":
            part.call = _call(stream)
        elif part.kind == "Think":
            _note(part, "thinking_ms", stream.integer())
        part.parts = _parts(stream, depth + 1)
        parts.append(part)
    return parts


def _call(stream: QtStream) -> dict[str, Any]:
    call: dict[str, Any] = {"name": stream.text(), "arguments": {}}
    for _ in range(stream.count()):
        name, _ = stream.text(), stream.integer()
        call["arguments"][name] = stream.variant()
    call["result"], call["error"], call["error_text"] = stream.text(), stream.integer(), stream.text()
    return call


def _sources_with_questions(items: list[Item]) -> list[Item]:
    """Before version 11 the documents were kept with the answer that cites them."""
    question: Item | None = None
    for item in items:
        if item.kind == "Prompt":
            question = item
        elif item.kind == "Response":
            if question:
                question.sources = item.sources
            item.sources, question = [], None
    return items


def _tell(chat: Chat, items: list[Item]) -> None:
    for place, item in enumerate(items):
        notes = {**item.notes, **({"sources": item.sources} if item.sources else {})}
        for part, message in enumerate(_messages(item, f"call-{place}")):
            number = len(chat.said) + 1
            finish = ("cancelled" if item.stopped else "stop") if message.role == "assistant" else ""
            model = chat.model if message.role == "assistant" else ""
            said = Said(message, chat.leaf, number, model, finish=finish, created=chat.created, notes=notes)
            chat.said[number] = replace(said, key=f"{place}.{part}")
            chat.leaf, notes = number, {}
    chat.title = chat.title or title_of(said.message for said in chat.said.values())


def _messages(item: Item, call_id: str) -> Iterator[Message]:
    if item.kind == "Prompt":
        yield Message("user", "".join(map(_attached, item.attached)) + item.value)
    elif item.kind == "Response":
        yield from _answer(item, call_id)
    else:
        yield Message("system" if item.kind == "System" else "assistant", item.value)


def _attached(attachment: tuple[str, bytes]) -> str:
    """As the app put it before the question; of a table file only its name."""
    url, content = attachment
    name = Path(unquote(urlsplit(url).path) if url.startswith("file:") else url).name
    text = "" if name.lower().endswith(".xlsx") else content.decode("utf-8", "replace")
    return f"## Attached: {name}\n\n{text}\n\n"


def _answer(item: Item, call_id: str) -> Iterator[Message]:
    """Each call and what it gave are messages of their own; the thought before it goes with it."""
    text = thought = ""
    calls = 0
    for part in _leaves(item):
        if part.kind == "Think":
            thought += _without_tags(part.value)
        elif part.kind == "ToolCall":
            calls += 1
            arguments = part.call["arguments"] or {"code": _without_tags(part.value)}
            function = {"name": part.call["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
            call = {"id": f"{call_id}-{calls}", "type": "function", "function": function}
            yield Message("assistant", text, thought, (call,))
            text = thought = ""
        elif part.kind == "ToolResponse":
            yield Message("tool", part.value, tool_call_id=f"{call_id}-{calls}")
        else:
            text += part.value
    found = THOUGHT.match(item.value)
    thought, rest = (thought + found[1].strip(), item.value[found.end() :]) if found else (thought, item.value)
    yield Message("assistant", text + rest, thought)


def _leaves(item: Item) -> Iterator[Item]:
    for part in item.parts:
        if part.parts:
            yield from _leaves(part)
        if part.value or not part.parts:
            yield part


def _without_tags(value: str) -> str:
    return re.sub(r"^\s*<\w+>|</\w+>\s*$", "", value).strip()
