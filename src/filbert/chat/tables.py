"""The tables of a history, the same on SQLite and PostgreSQL, and the versions they have had."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sql

from filbert.chat import full_text
from filbert.chat.record import kept_moment
from filbert.core.errors import StoreReadOnly

LENGTH_OF_ID = 14
metadata = sql.MetaData()
NUMBER = sql.BigInteger().with_variant(sql.Integer(), "sqlite")  # only INTEGER counts up by itself there


class Moment(sql.TypeDecorator[datetime]):
    """A time in UTC. SQLite keeps none of the zone, so that it is put back."""

    impl = sql.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sql.Dialect) -> datetime | None:
        return kept_moment(value) if value else None

    def process_result_value(self, value: datetime | None, dialect: sql.Dialect) -> datetime | None:
        return kept_moment(value) if value else None


chats = sql.Table(
    "chats",
    metadata,
    sql.Column("id", sql.String(LENGTH_OF_ID), primary_key=True),
    sql.Column("title", sql.Text, nullable=False),
    sql.Column("model", sql.Text, nullable=False),
    sql.Column("system", sql.Text, nullable=False),
    sql.Column("created", Moment, nullable=False),
    sql.Column("updated", Moment, nullable=False, index=True),
    sql.Column("leaf", NUMBER),
    sql.Column("source", sql.Text, unique=True),  # None for a chat that began here
)
messages = sql.Table(
    "messages",
    metadata,
    sql.Column("number", NUMBER, primary_key=True),
    sql.Column("chat", sql.ForeignKey("chats.id"), nullable=False),
    sql.Column("parent", sql.ForeignKey("messages.number"), index=True),
    sql.Column("role", sql.String(16), nullable=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("parts", sql.JSON(none_as_null=True)),  # where there are images: all parts, the images by their sha256
    sql.Column("reasoning", sql.Text, nullable=False),
    sql.Column("tool_calls", sql.JSON, nullable=False),
    sql.Column("tool_call_id", sql.Text, nullable=False),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("model", sql.Text, nullable=False),
    sql.Column("model_sha256", sql.String(64), nullable=False),
    sql.Column("sampling", sql.JSON, nullable=False),
    sql.Column("usage", sql.JSON, nullable=False),
    sql.Column("timings", sql.JSON, nullable=False),
    sql.Column("finish", sql.String(32), nullable=False),
    sql.Column("created", Moment, nullable=False),
    sql.Column("key", sql.Text, nullable=False),
    sql.Column("notes", sql.JSON, nullable=False),
    sql.UniqueConstraint("chat", "key"),  # two imports at once add a message once
)
images = sql.Table(
    "images",
    metadata,
    sql.Column("chat", sql.ForeignKey("chats.id"), primary_key=True),
    sql.Column("sha256", sql.String(64), primary_key=True),
    sql.Column("url", sql.Text, nullable=False),  # data:image/png;base64,…
)
schema = sql.Table("history_schema", metadata, sql.Column("version", sql.Integer, nullable=False))

Migration = Callable[[sql.Connection], None]
MIGRATIONS: tuple[Migration, ...] = ()  # the first leads from version 1 to 2
VERSION = 1 + len(MIGRATIONS)


def version_of(connection: sql.Connection) -> int:
    """0 where there are no tables yet."""
    if not sql.inspect(connection).has_table(schema.name):
        return 0
    return int(connection.scalar(sql.select(schema.c.version)) or 0)


def prepare(connection: sql.Connection, where: str) -> None:
    """Make the tables, or bring them to this version. Raises StoreReadOnly for those of a newer Filbert."""
    version = version_of(connection)
    if version > VERSION:
        raise StoreReadOnly(
            f"{where} was written by a newer Filbert.",
            why=f"It has version {version}; this one knows {VERSION}.",
            do="Upgrade Filbert, or name another history with FILBERT_DATABASE_URL.",
        )
    if version == 0:
        metadata.create_all(connection)
        full_text.create(connection)
        connection.execute(sql.insert(schema).values(version=VERSION))
    for migrate in MIGRATIONS[version - 1 :] if version else ():
        migrate(connection)
    if 0 < version < VERSION:
        connection.execute(sql.update(schema).values(version=VERSION))


def row_values(row: Any) -> dict[str, Any]:
    return dict(row._mapping)
