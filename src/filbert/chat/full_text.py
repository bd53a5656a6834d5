"""Search in what was said. All that SQLite and PostgreSQL do each in their own way is here.

SQLite: an FTS5 index that holds no copy of the text, kept in step by triggers. Scripts without blanks between words are
indexed letter by letter, and a word of them is looked for as a phrase.
"""

from __future__ import annotations

import re
import unicodedata

import sqlalchemy as sql

UNSPACED = (  # Thai and Lao, Burmese, Khmer, Kana, Han
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
LETTER = re.compile(f"([{UNSPACED}])")
WORD = re.compile(r"\w+")
AROUND = 60  # letters of a snippet before and after its first word
MOST_WORDS = 20
SCHEMA = (
    "CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='unicode61 remove_diacritics 2', prefix='2 3')",
    """CREATE TRIGGER words_added AFTER INSERT ON messages BEGIN
        INSERT INTO words(rowid, text) VALUES (new.number, spaced(new.text)); END""",
    """CREATE TRIGGER words_removed AFTER DELETE ON messages BEGIN
        INSERT INTO words(words, rowid, text) VALUES ('delete', old.number, spaced(old.text)); END""",
    """CREATE TRIGGER words_changed AFTER UPDATE OF text ON messages WHEN old.text != new.text BEGIN
        INSERT INTO words(words, rowid, text) VALUES ('delete', old.number, spaced(old.text));
        INSERT INTO words(rowid, text) VALUES (new.number, spaced(new.text)); END""",
)
MOST_RANKED = 3000  # of a word that stands in more messages than this the newest are ranked: "the" in a long history
NEWEST = f"SELECT rowid FROM words WHERE words MATCH :words ORDER BY rowid DESC LIMIT {MOST_RANKED}"
RANKED = f"""SELECT rowid FROM words WHERE words MATCH :words AND rowid >= (SELECT min(rowid) FROM ({NEWEST}))
    ORDER BY rank LIMIT :most"""
LIKE = "SELECT number FROM messages WHERE {every} ORDER BY number DESC LIMIT :most"


def spaced(text: str | None) -> str:
    """The text with a blank around each letter of a script that has none between words."""
    return LETTER.sub(r" \1 ", text or "")


def create(connection: sql.Connection) -> None:
    if connection.dialect.name == "sqlite":
        for statement in SCHEMA:
            connection.exec_driver_sql(statement)


def find(connection: sql.Connection, words: list[str], most: int) -> list[int]:
    """The numbers of messages that hold all the words, the best first."""
    if connection.dialect.name == "sqlite":
        statement, given = RANKED, {"words": query(words)}
    else:
        statement = LIKE.format(every=" AND ".join(f"text ILIKE :w{at}" for at in range(len(words))))
        given = {f"w{at}": f"%{word}%" for at, word in enumerate(words)}
    return list(connection.scalars(sql.text(statement), {**given, "most": most}))


def words_of(text: str) -> list[str]:
    """What is looked for: quotes, operators and signs that a person types are no part of it."""
    return WORD.findall(text)[:MOST_WORDS]


def query(words: list[str]) -> str:
    """In FTS5's language: all words, each as a phrase whose last part may go on."""
    return " ".join(f'"{spaced(word).strip()}"*' for word in words)


def snippet(text: str, words: list[str]) -> str:
    """The text around the first of the words, on one line, each word marked as [word]."""
    text = " ".join(text.split())
    wanted = re.compile("|".join(_pattern(bare(word)) for word in sorted(words, key=len, reverse=True)), re.IGNORECASE)
    spans = [found.span() for found in wanted.finditer(bare(text))]
    first = spans[0][0] if spans else 0
    begin, end = max(0, first - AROUND), first + 2 * AROUND
    pieces, at = [], begin
    for left, right in spans:
        if right <= end:
            pieces += [text[at:left], "[", text[left:right], "]"]
            at = right
    return f"{'…' if begin else ''}{''.join(pieces)}{text[at:end]}{'…' if end < len(text) else ''}"


def bare(text: str) -> str:
    """The text without accents, letter for letter, as the index compares it."""
    return "".join(unicodedata.normalize("NFD", letter)[0] for letter in text)


def _pattern(word: str) -> str:
    """A word is found at its beginning, where its script shows beginnings."""
    return re.escape(word) if LETTER.match(word) else rf"(?<!\w){re.escape(word)}"
