"""Rows of the tables out of records, and records out of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sql

from filbert.chat.record import UNTITLED, Chat, Said
from filbert.chat.tables import chats, images, messages
from filbert.core.messages import Message

SHA256 = "sha256:"
INSERT = sql.insert(messages)  # compiled once: with values in it SQLAlchemy would compile it for each message


def plain(text: str) -> str:
    """What every database takes: no half of a pair, no zero byte."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def chat_row(chat: Chat) -> dict[str, Any]:
    return {
        "id": chat.id,
        "title": plain(chat.title) or UNTITLED,
        "model": plain(chat.model),
        "system": plain(chat.system),
        "created": chat.created,
        "updated": chat.updated,
        "leaf": chat.leaf,
        "source": chat.source or None,
    }


Parts = Sequence[Mapping[str, Any]]


def message_row(chat_id: str, said: Said, parts: Parts | None) -> dict[str, Any]:
    message = said.message
    return {
        "chat": chat_id,
        "parent": said.parent,
        "role": message.role,
        "text": plain(message.text),
        "parts": None if parts is None else list(parts),
        "reasoning": plain(message.reasoning),
        "tool_calls": [dict(call) for call in message.tool_calls],
        "tool_call_id": plain(message.tool_call_id),
        "name": plain(message.name),
        "model": plain(said.model),
        "model_sha256": said.model_sha256,
        "sampling": dict(said.sampling),
        "usage": dict(said.usage),
        "timings": dict(said.timings),
        "finish": said.finish,
        "created": said.created,
        "key": plain(said.key),
        "notes": dict(said.notes),
    }


def said_of(row: Any) -> Said:
    content = row.text if row.parts is None else tuple(row.parts)
    calls = tuple(row.tool_calls)
    message = Message(row.role, content, row.reasoning, calls, row.tool_call_id, row.name)
    own = ("parent", "number", "model", "model_sha256", "sampling", "usage", "timings", "finish", "created", "key")
    return Said(message, **{name: getattr(row, name) for name in own}, notes=row.notes)


def insert_message(connection: sql.Connection, row: Mapping[str, Any]) -> int:
    """Returns the number it was given."""
    key = connection.execute(INSERT, row).inserted_primary_key
    return int(key[0]) if key else 0


def keep_images(connection: sql.Connection, chat_id: str, message: Message) -> Parts | None:
    """The parts of a message with each image by its sha256; the image itself is kept once a chat."""
    if isinstance(message.content, str):
        return None
    return [_kept_part(connection, chat_id, part) for part in message.content]


def _kept_part(connection: sql.Connection, chat_id: str, part: Mapping[str, Any]) -> Mapping[str, Any]:
    url = _image_url(part)
    if not url.startswith("data:"):
        return part
    sha256 = hashlib.sha256(url.encode()).hexdigest()
    key = {"chat": chat_id, "sha256": sha256}
    if not connection.execute(sql.select(images.c.chat).filter_by(**key)).first():
        connection.execute(sql.insert(images).values(**key, url=url))
    return _with_url(part, SHA256 + sha256)


def _image_url(part: Mapping[str, Any]) -> str:
    image = part.get("image_url")
    return str(image.get("url", "")) if isinstance(image, Mapping) else ""


def _with_url(part: Mapping[str, Any], url: str) -> dict[str, Any]:
    return {**part, "image_url": {**part["image_url"], "url": url}}


def put_images_back(connection: sql.Connection, chat: Chat) -> None:
    found = connection.execute(sql.select(images.c.sha256, images.c.url).where(images.c.chat == chat.id))
    urls = {SHA256 + sha256: url for sha256, url in found}
    for number, said in chat.said.items() if urls else ():
        if isinstance(said.message.content, tuple):
            whole = tuple(
                _with_url(part, urls[url]) if (url := _image_url(part)) in urls else part
                for part in said.message.content
            )
            chat.said[number] = replace(said, message=replace(said.message, content=whole))


def merge_messages(connection: sql.Connection, chat: Chat, chat_id: str) -> int:
    """Add those whose key is not there yet, each under the number its parent has here."""
    there = sql.select(messages.c.key, messages.c.number).where(messages.c.chat == chat_id)
    here: dict[str, int] = {row.key: row.number for row in connection.execute(there)}
    numbers: dict[int, int] = {}
    new = 0
    for number, said in in_order(chat.said.values()):
        if said.key in here:
            numbers[number] = here[said.key]
            continue
        stored = replace(said, parent=numbers.get(said.parent) if said.parent is not None else None)
        row = message_row(chat_id, stored, keep_images(connection, chat_id, said.message))
        numbers[number] = insert_message(connection, row)
        new += 1
    if new:
        leaf = numbers.get(chat.leaf) if chat.leaf is not None else None
        moved = sql.update(chats).where(chats.c.id == chat_id)
        connection.execute(moved.values(leaf=leaf, updated=_latest(chat)))
    return new


def in_order(tree: Iterable[Said]) -> list[tuple[int, Said]]:
    """Every message after the one before it."""
    return sorted((said.number, said) for said in tree)  # numbers are given as messages come


def _latest(chat: Chat) -> datetime:
    return max([chat.updated, *(said.created for said in chat.said.values())])
