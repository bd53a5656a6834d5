"""ChatGPT's export: conversations.json, or the zip it comes in.

Each conversation is a tree of nodes. One conversation at a time is in memory, and one that is too large is refused.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from filbert.chat.record import Chat, Said, new_id, now, title_of
from filbert.core import archives
from filbert.core.errors import BadInput
from filbert.core.messages import Message

MOST_CHAT_BYTES = 64 << 20
MOST_IMAGE_BYTES = 20 << 20
MOST_IMAGES_BYTES = MOST_CHAT_BYTES  # of one chat, as they are kept
DAMAGED = (*archives.DAMAGED, OSError)  # which bz2 raises
CONVERSATIONS = re.compile(r"conversations(-\d+)?\.json")
Node = Mapping[str, Any]
Picture = Callable[[str], str]  # the id of a file in the export to a data: address, "" where it is not there


class Bounded:
    """A file read in pieces, of which no single conversation may take more than a bound. `total` bytes were read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.total, self.began = file, 0, 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self.total += len(piece)
        if self.total - self.began > MOST_CHAT_BYTES:
            raise BadInput(f"One chat in the file has more than {MOST_CHAT_BYTES >> 20} MiB.", do="Leave it out.")
        return piece


def zipped(file: BinaryIO) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """The archive and its files of conversations. Raises BadInput."""
    try:
        archive = zipfile.ZipFile(file)
    except (*archives.DAMAGED, ValueError) as exc:
        raise BadInput("It is no whole zip file.", why=f"{str(exc).rstrip('.')}.", do="Download it again.") from exc
    found = [entry for entry in archive.infolist() if CONVERSATIONS.fullmatch(PurePosixPath(entry.filename).name)]
    if not found:
        raise BadInput("There is no conversations.json in it.", do="Give the archive that ChatGPT exports.")
    return archive, found


def pictures_of(archive: zipfile.ZipFile) -> Picture:
    """Images stand in the archive under their id and the name that they were given."""
    entries = [entry for entry in archive.infolist() if entry.file_size <= MOST_IMAGE_BYTES]

    def picture(id: str) -> str:
        for entry in entries if id else ():
            name = PurePosixPath(entry.filename).name
            kind = mimetypes.guess_type(name)[0] or ""
            if name.startswith(id) and kind.startswith("image/"):
                data = _whole(archive, entry)
                return f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else ""
        return ""

    return picture


def _whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Nothing of one that is damaged or too large: the chat is worth more than its picture."""
    try:
        with archive.open(entry) as file:
            data = file.read(MOST_IMAGE_BYTES + 1)
    except DAMAGED:
        return b""
    return data if len(data) <= MOST_IMAGE_BYTES else b""


def no_picture(id: str) -> str:
    return ""


def chat_of(told: object, picture: Picture = no_picture) -> Chat:
    """One conversation. Raises BadInput when it is none."""
    if not isinstance(told, dict) or not isinstance(mapping := told.get("mapping"), dict):
        raise BadInput("A conversation in the file has no messages.", do="Export it again.")
    created = _time(told.get("create_time")) or now()
    id = _text(told.get("conversation_id")) or _text(told.get("id"))
    chat = Chat(
        new_id(),
        " ".join(_text(told.get("title")).split()),
        _text(told.get("default_model_slug")),
        created=created,
        updated=_time(told.get("update_time")) or created,
        source=f"chatgpt:{id}" if id else "",
    )
    if not id:
        raise BadInput("A conversation in the file has no id.", do="Export it again.")
    Tree(chat, mapping, picture).read(_text(told.get("current_node")))
    chat.title = chat.title or title_of(said.message for said in chat.said.values())
    return chat


class Tree:
    """Nodes of a mapping to messages. A node that says nothing hands its place to those after it, and a thought goes
    with the answer that follows it."""

    def __init__(self, chat: Chat, mapping: Mapping[str, Any], picture: Picture) -> None:
        self._chat, self._picture = chat, picture
        self._addresses: dict[str, str] = {}  # of its pictures
        self._nodes: dict[str, Node] = {id: node for id, node in mapping.items() if isinstance(node, dict)}
        self._places: dict[str | None, int | None] = {}  # the message that a node became, or the one before it
        self._thoughts: dict[str | None, str] = {}  # of a node, not yet spoken
        self._calls: dict[str | None, str] = {}  # the last call before a node

    def read(self, current: str) -> None:
        for id, parent in self._in_order():
            before = self._places.get(parent)
            self._thoughts[id], self._calls[id] = self._thoughts.get(parent, ""), self._calls.get(parent, "")
            self._places[id] = self._place(id, before) or before
        self._chat.leaf = self._places.get(current) or max(self._chat.said, default=None)

    def _in_order(self) -> Iterator[tuple[str, str | None]]:
        """Each node after its parent; the order of brothers is the mapping's. Nodes in a ring are never reached."""
        below: dict[str | None, list[str]] = {}
        for id, node in self._nodes.items():
            parent = node.get("parent")
            known = isinstance(parent, str) and parent in self._nodes
            below.setdefault(parent if known else None, []).append(id)
        waiting: list[tuple[str, str | None]] = [(id, None) for id in reversed(below.get(None, ()))]
        while waiting:
            id, parent = waiting.pop()
            yield id, parent
            waiting += [(child, id) for child in reversed(below.get(id, ()))]

    def _place(self, id: str, before: int | None) -> int | None:
        """The number of the message that a node becomes."""
        told = self._nodes[id].get("message")
        if not isinstance(told, dict) or not isinstance(content := told.get("content"), dict):
            return None
        kind, role = _text(content.get("content_type")), _text(_dict(told.get("author")).get("role"))
        if kind == "user_editable_context":
            self._chat.system = self._chat.system or _instructions(content)
            return None
        if kind == "thoughts":
            self._thoughts[id] += _thoughts(content)
            return None if self._has_children(id) else self._add(id, told, before, Message("assistant", ""))
        if kind == "reasoning_recap" or role not in ("user", "assistant", "tool", "system"):
            return None
        message = self._message(id, role, told, content)
        return self._add(id, told, before, message) if message.content or message.tool_calls else None

    def _has_children(self, id: str) -> bool:
        return any(_text(child) in self._nodes for child in _list(self._nodes[id].get("children")))

    def _message(self, id: str, role: str, told: Node, content: Node) -> Message:
        spoken = self._content(content)
        recipient = _text(told.get("recipient")) or "all"
        if role == "assistant" and recipient != "all":
            self._calls[id] = id
            function = {"name": recipient, "arguments": _arguments(spoken if isinstance(spoken, str) else "")}
            return Message("assistant", "", tool_calls=({"id": id, "type": "function", "function": function},))
        if role == "tool":
            name = _text(_dict(told.get("author")).get("name"))
            return Message("tool", spoken, tool_call_id=self._calls[id], name=name)
        return Message(role, spoken)  # type: ignore[arg-type]

    def _content(self, content: Node) -> str | tuple[Mapping[str, Any], ...]:
        parts = [self._part(part) for part in _list(content.get("parts"))]
        texts = [part["text"] for part in parts if part.get("text")]
        if any(part["type"] == "image_url" for part in parts):
            return tuple(part for part in parts if part.get("text") or part["type"] == "image_url")
        return "\n\n".join(texts) or _text(content.get("text")) or _text(content.get("result"))

    def _part(self, part: object) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        kind = _text(_dict(part).get("content_type"))
        if kind == "image_asset_pointer":
            pointer = _text(_dict(part).get("asset_pointer"))
            if url := self._address(pointer.rpartition("/")[2]):
                return {"type": "image_url", "image_url": {"url": url}}
            return {"type": "text", "text": "(an image that is not in the export)"}
        return {"type": "text", "text": _text(_dict(part).get("text"))}

    def _address(self, id: str) -> str:
        """Each picture once, until they are more than a chat may hold."""
        if id not in self._addresses:
            full = sum(map(len, self._addresses.values())) > MOST_IMAGES_BYTES
            self._addresses[id] = "" if full else self._picture(id)
        return self._addresses[id]

    def _add(self, id: str, told: Node, before: int | None, message: Message) -> int:
        if message.role == "assistant" and (thought := self._thoughts.pop(id, "")):
            message = Message("assistant", message.content, thought, message.tool_calls)
        number = len(self._chat.said) + 1
        meta = _dict(told.get("metadata"))
        model = _text(meta.get("model_slug")) if message.role == "assistant" else ""
        finish = _text(_dict(meta.get("finish_details")).get("type"))[:32]
        created = _time(told.get("create_time")) or self._chat.created
        attached = [_text(_dict(file).get("name")) for file in _list(meta.get("attachments"))]
        notes = {"attachments": attached} if attached else {}
        self._chat.said[number] = Said(
            message, before, number, model, finish=finish, created=created, key=id, notes=notes
        )
        return number


def _arguments(text: str) -> str:
    """JSON as it is; anything else, a program for one, as the value of `input`."""
    try:
        if isinstance(json.loads(text), dict):
            return text
    except (ValueError, RecursionError):
        pass
    return json.dumps({"input": text}, ensure_ascii=False)


def _instructions(content: Node) -> str:
    return "\n\n".join(filter(None, (_text(content.get(name)) for name in ("user_profile", "user_instructions"))))


def _thoughts(content: Node) -> str:
    told = (_dict(thought) for thought in _list(content.get("thoughts")))
    parts = (part for thought in told for part in (thought.get("summary"), thought.get("content")))
    return "\n\n".join(filter(None, map(_text, parts)))


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else None
    except (OverflowError, OSError, ValueError):
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
