"""Write GPT4All's .chat files as the app does, by its C++ source: gpt4all-chat/src at 3.10 (chatlistmodel.cpp saveChats,
chat.cpp serialize, chatllm.cpp serialize, chatmodel.cpp serialize, tool.cpp serialize), QDataStream of Qt_6_2.

Made apart from the reader in filbert/chat/transfer: the reader's mistakes must not be the writer's, too. No file of the
app itself is at hand. States of models, which old versions stored, are filled with bytes of our own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Entry:
    """A ChatItem. name: "Prompt: ", "Response: ", "Text: ", "ToolCall: ", "ToolResponse: ", "Think: "."""

    name: str
    value: str = ""
    stopped: bool = False
    thumbs_up: bool = False
    is_error: bool = False
    sources: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[tuple[str, bytes]] = field(default_factory=list)
    tool: dict[str, Any] = field(default_factory=dict)  # name, params [(name, value)], result
    children: list[Entry] = field(default_factory=list)


def string(text: str | None) -> bytes:
    if text is None:
        return b"\xff\xff\xff\xff"
    data = text.encode("utf-16-be")
    return struct.pack(">I", len(data)) + data


def byte_array(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def qint32(number: int) -> bytes:
    return struct.pack(">i", number)


def qint64(number: int) -> bytes:
    return struct.pack(">q", number)


def boolean(value: bool) -> bytes:
    return struct.pack(">b", value)


def string_list(texts: list[str]) -> bytes:
    return struct.pack(">I", len(texts)) + b"".join(map(string, texts))


def variant(value: Any) -> bytes:
    kinds: list[tuple[type, int, Any]] = [
        (bool, 1, boolean),
        (int, 4, qint64),
        (float, 6, lambda number: struct.pack(">d", number)),
        (str, 10, string),
        (list, 9, lambda items: struct.pack(">I", len(items)) + b"".join(map(variant, items))),
    ]
    if value is None:
        return struct.pack(">Ib", 0, 1)
    number, write = next((number, write) for kind, number, write in kinds if isinstance(value, kind))
    return struct.pack(">Ib", number, 0) + bytes(write(value))


def chat(entries: list[Entry], version: int, *, id: str = "c0ffee", name: str = "New Chat", state: int = 64) -> bytes:
    """A whole file; version 0 has neither magic nor number. state: bytes of a model's state where a version has one."""
    head = struct.pack(">Ii", 0xF5D553CC, version) if version else b""
    body = qint64(1_700_000_000) + string(id) + string(name) + string("user") + string("Llama 3 8B Instruct")
    if version >= 3:
        body += string_list(["my documents"])
    if version < 11:
        body += _model_state(version, state)
    return head + body + qint32(len(entries)) + b"".join(_item(entry, version) for entry in _moved(entries, version))


def _model_state(version: int, state: int) -> bytes:
    written = boolean(True) if version >= 6 else b""
    if version >= 2:
        written += qint32(1) + qint32(0)
    written += string("the response") + string(None) + struct.pack(">I", 123)
    if version < 4:
        written += struct.pack(">I", 0)
    written += struct.pack(">I", 17)
    if version >= 7:
        written += struct.pack(">I", 2048)
    if version < 9:
        written += struct.pack(">Q", 3) + b"\x01\x02\x03\x04" * 3
    return written + struct.pack(">Q", 5) + b"\x05\x06\x07\x08" * 5 + byte_array(b"\xee" * state)


def _moved(entries: list[Entry], version: int) -> list[Entry]:
    """Before version 11 sources were written with the answer."""
    if version >= 11:
        return entries
    moved = [Entry(**{**entry.__dict__, "sources": []}) for entry in entries]
    for place, entry in enumerate(entries):
        if entry.name == "Prompt: " and place + 1 < len(entries):
            moved[place + 1].sources = entry.sources
    return moved


def _item(entry: Entry, version: int) -> bytes:
    written = qint32(7) if version < 12 else b""
    written += string(entry.name) + string(entry.value)
    if version < 10:
        written += string("deprecated prompt")
    written += string("") + boolean(False) + boolean(entry.stopped) + boolean(entry.thumbs_up) + boolean(False)
    if version >= 11 and entry.name == "Response: ":
        written += boolean(entry.is_error)
    if version >= 8:
        written += qint64(len(entry.sources)) + b"".join(map(_source, entry.sources))
    elif version >= 3:
        lines = [f'1. "{source["title"]}". In {source["file"]}. [Context](context://1)' for source in entry.sources]
        written += string("\n".join(lines)) + string_list([source["text"] for source in entry.sources])
    if version >= 10:
        pairs = (byte_array(url.encode()) + byte_array(content) for url, content in entry.attachments)
        written += qint64(len(entry.attachments)) + b"".join(pairs)
    if version >= 12:
        written += _children(entry)
    return written


def _source(source: dict[str, Any]) -> bytes:
    texts = [source.get(key, "") for key in ("collection", "path", "file", "title", "author", "date", "text")]
    return b"".join(map(string, texts)) + b"".join(qint32(source.get(key, -1)) for key in ("page", "from", "to"))


def _children(entry: Entry) -> bytes:
    return qint64(len(entry.children)) + b"".join(map(_child, entry.children))


def _child(entry: Entry) -> bytes:
    written = string(entry.name) + string(entry.value)
    if entry.name == "ToolCall: ":
        tool = entry.tool
        params = b"".join(string(name) + qint32(0) + variant(value) for name, value in tool["params"])
        written += string(tool["name"]) + qint64(len(tool["params"])) + params
        written += string(tool["result"]) + qint32(0) + string("")
    elif entry.name == "Think: ":
        written += qint32(1500)
    return written + _children(entry)
