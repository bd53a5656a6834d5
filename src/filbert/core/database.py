"""Tables in an SQLite file of our own that only its owner may read, or in a database by its URL.

Each change is a transaction of its own, so that kill -9 loses nothing that was stored, and several processes may write
at the same time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql

from filbert.core.errors import BadInput, DiskFull, FilbertError, StoreBusy, StoreReadOnly
from filbert.core.files import disk_errors, make_folder

BUSY_S = 15  # so long one process waits for another's transaction, which takes milliseconds


class Database:
    """Opened when it is first used. Raises DiskFull, StoreReadOnly, StoreBusy."""

    _make_room = "Free some room."

    def __init__(self, url: str, what: str, prepare: Callable[[sql.Connection], None]) -> None:
        """url: as SQLAlchemy spells it; what: the word for what is kept ("keys"); prepare: makes the tables that are
        not there yet, in a transaction."""
        self.url, self._what, self._prepare = url, what, prepare

    def close(self) -> None:
        if engine := self.__dict__.pop("_engine", None):
            engine.dispose()

    @property
    def file(self) -> Path | None:
        """The SQLite file; None where a server keeps the tables."""
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:///") else None

    @property
    def is_there(self) -> bool:
        """Whether there may be anything in it: a file that does not exist need not be made to be read."""
        return not self.file or self.file.exists()

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        with self._errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        with self._errors(), self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    @cached_property
    def _engine(self) -> sql.Engine:
        try:
            url = sql.make_url(self.url)
        except sql.exc.ArgumentError as exc:
            do = "Write it as sqlite:////folder/file.db."
            raise BadInput(f"{self.url!r} is no address of a database.", do=do) from exc
        if url.get_backend_name() != "sqlite":
            return self._prepared(sql.create_engine(url))
        if url.database:
            _make_private(Path(url.database))
            url = _unchanging(url, Path(url.database))
        engine = sql.create_engine(url, connect_args={"timeout": BUSY_S, "check_same_thread": False})
        sql.event.listen(engine, "connect", self._connected)
        sql.event.listen(engine, "begin", _begun)
        return self._prepared(engine)

    def _is_ready(self, connection: sql.Connection) -> bool:
        """Whether there is nothing to prepare."""
        return False

    def _prepared(self, engine: sql.Engine) -> sql.Engine:
        """Only what has to be changed is written to: tables that cannot be written can be read."""
        with engine.connect() as connection:
            if self._is_ready(connection):
                return engine
        with engine.execution_options(writes=True).begin() as connection:
            self._prepare(connection)
        return engine

    def _connected(self, connection: Any, record: object) -> None:
        """Python would begin transactions late, and two that read before they write would refuse each other."""
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What a database refuses, in our own words."""
        try:
            yield
        except (sql.exc.DBAPIError, sqlite3.Error) as exc:  # the second of a pragma, which SQLAlchemy does not see
            raise self._in_words(exc) from exc

    def _in_words(self, error: sql.exc.DBAPIError | sqlite3.Error) -> FilbertError:
        cause = error.orig if isinstance(error, sql.exc.DBAPIError) else error
        code, why = getattr(cause, "sqlite_errorname", ""), f"{str(cause).strip().capitalize()}."
        if code.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_TOOBIG")):
            return DiskFull(f"The {self._what} cannot be written.", why=why, do=self._make_room)
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreBusy(f"Another program holds the {self._what}.", why=why, do="Wait for it, or stop it.")
        where = sql.make_url(self.url).render_as_string().removeprefix("sqlite:///")
        return self._refused(cause, code, where, why)

    def _refused(self, cause: BaseException | None, code: str, where: str, why: str) -> FilbertError:
        """For what is neither full nor busy; code: SQLite's name of the error, "" where it has none."""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreReadOnly(f"The {self._what} in {where} are damaged.", why=why, do="Take that file away.")
        return StoreReadOnly(f"The {self._what} in {where} cannot be used.", why=why, do="Mend that, or name another.")


def _make_private(file: Path) -> None:
    with disk_errors(file):
        if file.is_file():
            return
        make_folder(file.parent)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


def _unchanging(url: sql.URL, file: Path) -> sql.URL:
    """SQLite makes files beside the one it reads, unless it is told that nobody writes to it."""
    if os.access(file.parent, os.W_OK) or file.with_name(f"{file.name}-wal").exists():
        return url
    told = {**url.query, "uri": "true", "immutable": "1"}
    return url.set(database=f"file:{quote(str(file.absolute()))}", query=told)


def _begun(connection: sql.Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
