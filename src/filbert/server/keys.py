"""The keys that let programs in: named, limited, revocable. What is kept is never enough to come in with.

They lie in a file of the server's own, keys.db in the data folder, or in the database that `database_url` names.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sql

from filbert.chat.tables import Moment, row_values
from filbert.core import paths
from filbert.core.database import Database
from filbert.core.errors import BadInput, StoreReadOnly
from filbert.core.nearest import did_you_mean
from filbert.core.settings import Settings, configured

Scope = Literal["infer", "admin"]  # admin may do what infer may
BEGINNING = "fk-"
SECRET_BYTES = 32
DIGITS = string.digits + string.ascii_letters
LENGTH = 43  # of 32 bytes in base 62
VERSION = 1

metadata = sql.MetaData()
keys = sql.Table(
    "keys",
    metadata,
    sql.Column("id", sql.String(8), primary_key=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("sha256", sql.String(64), nullable=False, unique=True),
    sql.Column("scope", sql.String(8), nullable=False),
    sql.Column("models", sql.JSON, nullable=False),
    sql.Column("requests_a_minute", sql.Integer),
    sql.Column("tokens_a_day", sql.BigInteger),
    sql.Column("created", Moment, nullable=False),
    sql.Column("last_used", Moment),
    sql.Column("revoked", Moment),
)
days = sql.Table(
    "key_days",
    metadata,
    sql.Column("key", sql.ForeignKey("keys.id"), primary_key=True),
    sql.Column("day", sql.String(10), primary_key=True),  # 2026-11-24, in UTC
    sql.Column("tokens", sql.BigInteger, nullable=False),
)
schema = sql.Table("keys_schema", metadata, sql.Column("version", sql.Integer, nullable=False))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new key may do. models: names, none for all; limits: None for no limit."""

    name: str
    scope: Scope = "infer"
    models: tuple[str, ...] = ()
    requests_a_minute: int | None = None
    tokens_a_day: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept. tokens_today: prompts and answers together, since midnight UTC."""

    id: str
    name: str
    sha256: str
    scope: Scope
    models: tuple[str, ...]
    requests_a_minute: int | None
    tokens_a_day: int | None
    created: datetime
    last_used: datetime | None = None
    revoked: datetime | None = None
    tokens_today: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """What became of a key since it was last kept."""

    last: datetime
    tokens: int = 0


class Keys:
    """Opened when it is first used; looking for keys makes no file. Raises DiskFull, StoreReadOnly, StoreBusy."""

    def __init__(self, url: str = "") -> None:
        """url: as SQLAlchemy spells it; left out, the setting `database_url`, else keys.db in the data folder."""
        url = url or configured(Settings).database_url or f"sqlite:///{paths.data_folder() / 'keys.db'}"
        self._database = Database(url, "keys", _prepare)

    def close(self) -> None:
        self._database.close()

    def add(self, wanted: Wanted) -> tuple[Key, str]:
        """A new key, and its text, which is told this once. Raises BadInput where a key of that name is in use."""
        text = new_text()
        key = Key(
            id=secrets.token_hex(4),
            name=_good_name(wanted.name),
            sha256=hashed(text),
            scope=wanted.scope,
            models=wanted.models,
            requests_a_minute=wanted.requests_a_minute,
            tokens_a_day=wanted.tokens_a_day,
            created=now(),
        )
        with self._database.writing() as connection:
            if connection.scalar(sql.select(keys.c.id).where(_in_use(key.name))):
                raise BadInput(f"There is a key {key.name} already.", do="Take another name, or revoke that one.")
            row = {column.name: getattr(key, column.name) for column in keys.columns}
            connection.execute(sql.insert(keys).values(row | {"models": list(key.models)}))
        return key, text

    def all(self) -> list[Key]:
        """The oldest first, revoked ones too."""
        if not self._database.is_there:
            return []
        of_today = sql.and_(days.c.key == keys.c.id, days.c.day == day_of(now()))
        columns = (*keys.columns, sql.func.coalesce(days.c.tokens, 0).label("tokens_today"))
        found = sql.select(*columns).select_from(keys.outerjoin(days, of_today)).order_by(keys.c.created, keys.c.id)
        with self._database.reading() as connection:
            every = [Key(**row_values(row)) for row in connection.execute(found)]
        return [replace(key, models=tuple(key.models)) for key in every]

    def in_use(self) -> list[Key]:
        return [key for key in self.all() if not key.revoked]

    def revoke(self, name: str) -> None:
        """Let it in no more. Raises BadInput where no key in use has that name."""
        names = [key.name for key in self.in_use()]
        if name not in names:
            do = did_you_mean(name, names, "`filbert keys list` shows them.")
            raise BadInput(f"There is no key {name}.", do=do)
        with self._database.writing() as connection:
            connection.execute(sql.update(keys).where(_in_use(name)).values(revoked=now()))

    def keep(self, uses: Mapping[str, Use]) -> None:
        """Add what was used; uses: by the key's id."""
        with self._database.writing() as connection:
            for id, use in uses.items():
                connection.execute(sql.update(keys).where(keys.c.id == id).values(last_used=use.last))
                this = {"key": id, "day": day_of(use.last)}
                same = sql.and_(days.c.key == id, days.c.day == this["day"])
                more = sql.update(days).where(same).values(tokens=days.c.tokens + use.tokens)
                if not connection.execute(more).rowcount:
                    connection.execute(sql.insert(days).values(this | {"tokens": use.tokens}))


def new_text() -> str:
    """fk- and 32 random bytes in base 62."""
    number = int.from_bytes(secrets.token_bytes(SECRET_BYTES))
    digits = []
    for _ in range(LENGTH):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return BEGINNING + "".join(digits)


def hashed(text: str) -> str:
    # One round of SHA-256, no slow hash: nobody can guess 256 random bits, as they could a password, and each request
    # pays for it. Looking the hash up may take longer the more of it is right: that tells nothing of the text.
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> datetime:
    return datetime.now(UTC)


def day_of(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def _in_use(name: str) -> sql.ColumnElement[bool]:
    return sql.and_(keys.c.name == name, keys.c.revoked.is_(None))


def _good_name(name: str) -> str:
    if not (good := " ".join(name.split())) or len(good) > 64 or not good.isprintable():
        raise BadInput("A key needs a name.", why="It has 1 to 64 letters.", do="Name who will use it.")
    if good.startswith(BEGINNING):
        raise BadInput("That is a key, not a name for one.", do="Name who will use it.")
    return good


def _prepare(connection: sql.Connection) -> None:
    if not sql.inspect(connection).has_table(schema.name):
        metadata.create_all(connection)
        connection.execute(sql.insert(schema).values(version=VERSION))
    elif (version := connection.scalar(sql.select(schema.c.version))) != VERSION:
        why = f"They have version {version}; this one knows {VERSION}."
        raise StoreReadOnly("The keys were written by a newer Filbert.", why=why, do="Upgrade Filbert.")
