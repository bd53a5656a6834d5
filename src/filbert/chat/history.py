"""The history: every chat with all its branches, in one SQLite file (or another database by its URL)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sql

from filbert.chat import full_text
from filbert.chat.history_database import HistoryDatabase
from filbert.chat.record import Chat, Hit, Said, Summary, new_id, now
from filbert.chat.rows import (
    chat_row,
    insert_message,
    keep_images,
    merge_messages,
    message_row,
    put_images_back,
    said_of,
)
from filbert.chat.tables import chats, images, messages, row_values
from filbert.core import paths
from filbert.core.errors import BadInput, DiskFull
from filbert.core.files import disk_errors
from filbert.core.nearest import nearest
from filbert.core.settings import Settings, configured

HITS_LOOKED_AT = 200
IDS_LOOKED_AT = 200


class History:
    """Opened when it is first used. Raises HistoryDamaged, DiskFull, StoreReadOnly, StoreBusy."""

    def __init__(self, url: str = "") -> None:
        """url: as SQLAlchemy spells it; left out, the setting `database_url`, else chats.db in the data folder."""
        url = url or configured(Settings).database_url or f"sqlite:///{paths.history_file()}"
        self._database = HistoryDatabase(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def file(self) -> Path | None:
        """The SQLite file; None where a server keeps the history."""
        return self._database.file

    # what there is

    def chats(self, limit: int = 20, offset: int = 0) -> list[Summary]:
        """The latest first."""
        count = sql.select(sql.func.count()).where(messages.c.chat == chats.c.id).scalar_subquery()
        columns = (chats.c.id, chats.c.title, chats.c.model, count.label("messages"), chats.c.updated)
        page = sql.select(*columns).order_by(chats.c.updated.desc(), chats.c.id.desc()).limit(limit).offset(offset)
        with self._database.reading() as connection:
            return [Summary(**row_values(row)) for row in connection.execute(page)]

    def ids(self) -> list[str]:
        """Of every chat, the oldest first."""
        with self._database.reading() as connection:
            return list(connection.scalars(sql.select(chats.c.id).order_by(chats.c.created, chats.c.id)))

    def search(self, words: str, limit: int = 20) -> list[Hit]:
        """Chats in which every word was said, or stands in the title; a word may go on. The best first."""
        wanted = full_text.words_of(words)
        if not wanted:
            raise BadInput("There is nothing to look for.", do="Give at least one word.")
        with self._database.reading() as connection:
            hits = {hit.chat: hit for hit in reversed([*self._said(connection, wanted), *_titled(connection, wanted)])}
        return list(reversed(hits.values()))[:limit]

    def _said(self, connection: sql.Connection, wanted: list[str]) -> list[Hit]:
        numbers = full_text.find(connection, wanted, HITS_LOOKED_AT)
        columns = (messages.c.number, messages.c.chat, messages.c.role, messages.c.text, chats.c.title, chats.c.updated)
        found = sql.select(*columns).join(chats).where(messages.c.number.in_(numbers))
        rows = {row.number: row for row in connection.execute(found)}
        best: dict[str, Hit] = {}
        for row in (rows[number] for number in numbers if number in rows):
            if row.chat not in best:
                snippet = full_text.snippet(row.text, wanted)
                best[row.chat] = Hit(row.chat, row.title, row.role, snippet, row.updated)
        return list(best.values())

    def chat(self, id: str) -> Chat:
        """A chat with all its branches, by its id or a beginning that no other has. Raises BadInput."""
        with self._database.reading() as connection:
            row = connection.execute(sql.select(chats).where(chats.c.id == self._full_id(connection, id))).one()
            chat = Chat(**{**row_values(row), "source": row.source or ""})
            rows = connection.execute(sql.select(messages).where(messages.c.chat == chat.id).order_by("number"))
            chat.said = {row.number: said_of(row) for row in rows}
            put_images_back(connection, chat)
            return chat

    def latest(self) -> Chat | None:
        newest = self.chats(1)
        return self.chat(newest[0].id) if newest else None

    def _full_id(self, connection: sql.Connection, id: str) -> str:
        beginning = id.lower().strip()
        like = chats.c.id.startswith(beginning, autoescape=True)
        found = list(connection.scalars(sql.select(chats.c.id).where(like).limit(2))) if beginning else []
        if not found:
            raise BadInput(f"There is no chat {id}.", do=f"{_meant(connection, beginning)}`filbert chats` lists them.")
        if len(found) > 1:
            raise BadInput(f"More than one chat begins with {id}.", do="Give more of its id.")
        return str(found[0])

    # what changes

    def begin(self, chat: Chat) -> None:
        """Keep a new chat; its messages are added one by one."""
        with self._database.writing() as connection:
            connection.execute(sql.insert(chats).values(**chat_row(chat)))

    def add(self, chat_id: str, said: Said) -> Said:
        """Keep a message, at which the chat stands from now on. Returns it with its number."""
        with self._database.writing() as connection:
            row = message_row(chat_id, said, keep_images(connection, chat_id, said.message))
            number = insert_message(connection, row)
            where = chats.c.id == chat_id
            connection.execute(sql.update(chats).where(where).values(leaf=number, updated=now()))
        return replace(said, number=number)

    def update(self, chat_id: str, said: Said) -> None:
        """Keep what a message has become."""
        with self._database.writing() as connection:
            row = message_row(chat_id, said, keep_images(connection, chat_id, said.message))
            connection.execute(sql.update(messages).where(messages.c.number == said.number).values(**row))

    def stand_at(self, chat_id: str, leaf: int | None) -> None:
        """Which message the chat stands at."""
        self._change(chat_id, leaf=leaf)

    def rename(self, id: str, title: str) -> None:
        """Raises BadInput when there is no such chat, or no title."""
        if not (title := " ".join(title.split())):
            raise BadInput("A chat needs a title.", do="Give one.")
        with self._database.reading() as connection:
            whole = self._full_id(connection, id)
        self._change(whole, title=title)

    def set_model(self, chat_id: str, model: str) -> None:
        self._change(chat_id, model=model)

    def set_system(self, chat_id: str, system: str) -> None:
        self._change(chat_id, system=system)

    def _change(self, chat_id: str, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(sql.update(chats).where(chats.c.id == chat_id).values(**values))

    def delete(self, id: str) -> str:
        """Forget a chat with all its branches. Returns its whole id."""
        try:
            with self._database.writing() as connection:
                whole = self._full_id(connection, id)
                for table in (messages, images):
                    connection.execute(sql.delete(table).where(table.c.chat == whole))
                connection.execute(sql.delete(chats).where(chats.c.id == whole))
        except DiskFull as exc:
            do = "To forget a chat takes a little room too: free it elsewhere on this disk."
            raise DiskFull("The chat cannot be forgotten.", why=exc.why, do=do) from exc
        return whole

    def merge_all(self, imported: Iterable[Chat]) -> int:
        """Keep imported chats, in one transaction: each in whole when its source (without one, its id) is new, else
        only what it has more than before. The numbers of its messages are its own. Returns how many were new."""
        new = 0
        with self._database.writing() as connection:
            for chat in imported:
                same = chats.c.source == chat.source if chat.source else chats.c.id == chat.id
                if not (found := connection.scalar(sql.select(chats.c.id).where(same))):
                    found = _free_id(connection, chat)
                    own = replace(chat, id=found, leaf=None, said={})
                    connection.execute(sql.insert(chats).values(**chat_row(own)))
                new += merge_messages(connection, chat, found)
        return new


def set_aside(history: History) -> Path:
    """Give a damaged history another name, so that a new one can begin. Raises BadInput where a server keeps it."""
    file = history.file
    if not file or not file.exists():
        raise BadInput("There is no history file to set aside.", do="Chat first: that begins one.")
    history.close()
    aside = file.with_name(f"{file.name}.{now():%Y%m%dT%H%M%S}.damaged")
    with disk_errors(file):
        for ending in ("-wal", "-shm", ""):
            if (part := file.with_name(file.name + ending)).exists():
                part.rename(aside.with_name(aside.name + ending))
    return aside


def _meant(connection: sql.Connection, beginning: str) -> str:
    """A question that names the chat whose id begins most like this one; "" where none does."""
    latest = sql.select(chats.c.id).order_by(chats.c.updated.desc()).limit(IDS_LOOKED_AT)
    by_beginning = {id[: len(beginning)]: id for id in reversed(list(connection.scalars(latest)))}
    near = nearest(beginning, by_beginning)
    return f"Did you mean {by_beginning[near[0]]}? " if near else ""


def _free_id(connection: sql.Connection, chat: Chat) -> str:
    """The chat's own id; another where it is taken."""
    id = chat.id
    while connection.scalar(sql.select(chats.c.id).where(chats.c.id == id)):
        id = new_id()
    return id


def _titled(connection: sql.Connection, wanted: list[str]) -> list[Hit]:
    every = (chats.c.title.icontains(word, autoescape=True) for word in wanted)
    found = sql.select(chats).where(*every).order_by(chats.c.updated.desc()).limit(HITS_LOOKED_AT)
    return [Hit(row.id, row.title, "title", row.title, row.updated) for row in connection.execute(found)]
