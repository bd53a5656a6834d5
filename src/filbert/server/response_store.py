"""Responses that can be read again and gone on from, each by the key that made it.

In memory they stay an hour; on disk, where a person asked for it, thirty days. Where there are too many, the oldest of
whoever has the most go first, so that no key drives out what another keeps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sql

from filbert.core import paths
from filbert.core.database import Database
from filbert.core.errors import FilbertError
from filbert.core.log import log
from filbert.core.settings import Settings, configured


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all owners together; seconds that each response stays."""

    responses: int
    size_bytes: int
    age_s: float


IN_MEMORY = Limits(1_000, 64 << 20, 3600)
ON_DISK = Limits(100_000, 1 << 30, 30 * 24 * 3600)


class ResponseStore(Protocol):
    """owner: the id of a key, "" for those who bring none; a response of another owner is as good as none. Usable
    from any thread."""

    def put(self, owner: str, id: str, document: bytes) -> bool:
        """Whether there was room for it."""

    def get(self, owner: str, id: str) -> bytes | None: ...
    def delete(self, owner: str, id: str) -> bool:
        """Whether it was there."""

    def sweep(self) -> None:
        """Drop those that stayed long enough. Raises nothing: it is tried again."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    since: float
    document: bytes


class ResponsesInMemory:
    def __init__(self, limits: Limits = IN_MEMORY, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: in seconds."""
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Kept]] = {}  # by owner, the oldest first

    def put(self, owner: str, id: str, document: bytes) -> bool:
        with self._lock:
            self._expire()
            self._kept.setdefault(owner, {})[id] = Kept(self._clock(), document)
            while self._is_over():
                fullest = max(self._kept, key=self._size_bytes)
                self._drop(fullest, next(iter(self._kept[fullest])))
            return id in self._kept.get(owner, {})

    def get(self, owner: str, id: str) -> bytes | None:
        with self._lock:
            self._expire()
            found = self._kept.get(owner, {}).get(id)
            return found.document if found else None

    def delete(self, owner: str, id: str) -> bool:
        with self._lock:
            self._expire()
            if id not in self._kept.get(owner, {}):
                return False
            self._drop(owner, id)
            return True

    def sweep(self) -> None:
        with self._lock:
            self._expire()

    def close(self) -> None:
        with self._lock:
            self._kept.clear()

    def _is_over(self) -> bool:
        many = sum(map(len, self._kept.values())) > self._limits.responses
        return many or sum(map(self._size_bytes, self._kept)) > self._limits.size_bytes

    def _size_bytes(self, owner: str) -> int:
        return sum(len(each.document) for each in self._kept[owner].values())

    def _expire(self) -> None:
        oldest = self._clock() - self._limits.age_s
        for owner in list(self._kept):
            for id in [id for id, each in self._kept[owner].items() if each.since <= oldest]:
                self._drop(owner, id)

    def _drop(self, owner: str, id: str) -> None:
        del self._kept[owner][id]
        if not self._kept[owner]:
            del self._kept[owner]


metadata = sql.MetaData()
responses = sql.Table(
    "responses",
    metadata,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("owner", sql.String(8), nullable=False),
    sql.Column("created", sql.Float, nullable=False, index=True),  # seconds since 1970
    sql.Column("size_bytes", sql.BigInteger, nullable=False),
    sql.Column("document", sql.LargeBinary, nullable=False),
)


class ResponsesOnDisk:
    """Raises DiskFull, StoreReadOnly, StoreBusy."""

    def __init__(self, url: str = "", limits: Limits = ON_DISK, clock: Callable[[], float] = time.time) -> None:
        """url: as SQLAlchemy spells it; left out, the setting `database_url`, else responses.db in the data folder."""
        url = url or configured(Settings).database_url or f"sqlite:///{paths.data_folder() / 'responses.db'}"
        self._database = Database(url, "responses", metadata.create_all)
        self._limits, self._clock = limits, clock

    def put(self, owner: str, id: str, document: bytes) -> bool:
        row = {"id": id, "owner": owner, "size_bytes": len(document), "document": document}
        with self._database.writing() as connection:
            self._expire(connection)
            connection.execute(sql.insert(responses).values(row | {"created": self._clock()}))
            while self._is_over(connection):
                connection.execute(sql.delete(responses).where(responses.c.id == _first_to_go(connection)))
            return bool(connection.scalar(sql.select(sql.func.count()).where(responses.c.id == id)))

    def get(self, owner: str, id: str) -> bytes | None:
        if not self._database.is_there:
            return None
        with self._database.reading() as connection:
            document: bytes | None = connection.scalar(sql.select(responses.c.document).where(self._that(owner, id)))
        return document

    def delete(self, owner: str, id: str) -> bool:
        if not self._database.is_there:
            return False
        with self._database.writing() as connection:
            return bool(connection.execute(sql.delete(responses).where(self._that(owner, id))).rowcount)

    def sweep(self) -> None:
        try:
            if self._database.is_there:
                with self._database.writing() as connection:
                    self._expire(connection)
        except FilbertError as exc:
            log.warning("%s", exc)

    def close(self) -> None:
        self._database.close()

    def _expire(self, connection: sql.Connection) -> None:
        connection.execute(sql.delete(responses).where(responses.c.created <= self._oldest))

    @property
    def _oldest(self) -> float:
        return self._clock() - self._limits.age_s

    def _that(self, owner: str, id: str) -> sql.ColumnElement[bool]:
        return sql.and_(responses.c.id == id, responses.c.owner == owner, responses.c.created > self._oldest)

    def _is_over(self, connection: sql.Connection) -> bool:
        found = connection.execute(sql.select(sql.func.count(), sql.func.sum(responses.c.size_bytes))).one()
        return bool(found[0] > self._limits.responses or (found[1] or 0) > self._limits.size_bytes)


def _first_to_go(connection: sql.Connection) -> str | None:
    most = sql.func.sum(responses.c.size_bytes).desc()
    fullest = connection.scalar(sql.select(responses.c.owner).group_by(responses.c.owner).order_by(most).limit(1))
    oldest = sql.select(responses.c.id).where(responses.c.owner == fullest).order_by(responses.c.created).limit(1)
    found: str | None = connection.scalar(oldest)
    return found
