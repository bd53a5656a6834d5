"""The database that holds a history: its tables, search in it, and what it says when it is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sql

from filbert.chat import full_text
from filbert.chat.tables import VERSION, prepare, version_of
from filbert.core.database import Database
from filbert.core.errors import FilbertError, HistoryDamaged, StoreReadOnly


class HistoryDatabase(Database):
    """Raises HistoryDamaged too."""

    _make_room = "Free some room, or keep no history with `filbert config set history false`."

    def __init__(self, url: str) -> None:
        super().__init__(url, "history", lambda connection: prepare(connection, str(self.file or "The database")))

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        with super().reading() as connection:
            try:
                yield connection
            except (ValueError, TypeError) as exc:  # of a cell: no text, no JSON, no time
                raise _damaged(sql.make_url(self.url).render_as_string(), f"{exc}.") from exc

    def _is_ready(self, connection: sql.Connection) -> bool:
        return version_of(connection) == VERSION

    def _connected(self, connection: Any, record: object) -> None:
        connection.create_function("spaced", 1, full_text.spaced, deterministic=True)
        super()._connected(connection, record)

    def _refused(self, cause: BaseException | None, code: str, where: str, why: str) -> FilbertError:
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR")):
            return StoreReadOnly(f"The history {where} cannot be used.", why=why, do="Name another with FILBERT_HOME.")
        if code.startswith("SQLITE_CONSTRAINT_FOREIGNKEY"):
            gone, why = "The chat is not in the history any more.", "Another Filbert deleted it."
            return StoreReadOnly(gone, why=why, do="Begin a new chat.")
        no_text = isinstance(cause, sqlite3.OperationalError) and not code  # what Python itself could not read
        if no_text or code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
            return _damaged(where, why)
        do = "Mend that, or name another database."
        return StoreReadOnly(f"The history at {where} cannot be used.", why=why, do=do)


def _damaged(where: str, why: str) -> HistoryDamaged:
    do = "`filbert chats set-aside` gives it another name and lets a new one begin."
    return HistoryDamaged(f"The history {where.removeprefix('sqlite:///')} is damaged.", why=why, do=do)
