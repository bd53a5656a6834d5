"""Colours for code, a line at a time: what comes later never changes a line that was shown.

A lexer that reads whole files (Pygments) would colour a growing block anew at each line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from filbert.cli.styled import DIM, Span

KEYWORD, STRING, NUMBER, COMMENT = "35", "32", "36", DIM
SCRIPT = """and as assert async await break case class continue def del elif else elsif end except exit export false
finally for from function global if import in is lambda let local match module nil none nonlocal not null or pass raise
require rescue return self set then true try unless until use when while with yield do done esac fi echo"""
CURLY = """abstract as async await auto base bool boolean break byte case catch char class const constexpr continue
default defer delete do double else enum export extends extern false final finally float fn for foreach from func
function go goto if impl implements import in include inline instanceof int interface internal is let long loop match
mod module move mut namespace new nil null object operator override package private protected pub public range
readonly return select self short signed sizeof static string struct super switch template this throw throws trait
true try type typedef typeof union unsafe unsigned use using val var virtual void volatile where while yield"""
QUERY = """add all alter and any as asc begin between by case cast check column commit constraint create cross database
default delete desc distinct drop else end except exists false foreign from full function group having if in index inner
insert intersect into is join key left like limit not null offset on or order outer over partition primary references
returning right rollback select set table then true union unique update using values view when where with local return
while repeat until nil elseif do for data type module import deriving instance let of"""


@dataclass(frozen=True, slots=True)
class Language:
    """comment: begins one to the end of the line. spans: opening to closing marks of what may go over lines."""

    words: frozenset[str]
    comment: str
    spans: tuple[tuple[str, str], ...]
    quotes: str = "\"'"


PYTHON = Language(frozenset(SCRIPT.split()), "#", (('"""', '"""'), ("'''", "'''")))
SHELL = Language(frozenset(SCRIPT.split()), "#", ())
BRACES = Language(frozenset(CURLY.split()), "//", (("/*", "*/"), ("`", "`")))
TABLES = Language(frozenset(QUERY.split()), "--", (("/*", "*/"),))
MARKUP = Language(frozenset(), "", (("<!--", "-->"),))
LANGUAGES = {
    name: language
    for names, language in (
        ("python py python3 pycon ipython", PYTHON),
        ("sh bash shell zsh console ruby rb perl r yaml yml toml ini make makefile dockerfile elixir julia", SHELL),
        (
            "c h cpp c++ cc java javascript js jsx typescript ts tsx json jsonc go golang rust rs kotlin swift cs "
            "csharp c# php scala dart css scss zig",
            BRACES,
        ),
        ("sql sqlite postgresql mysql lua haskell hs", TABLES),
        ("html xml svg vue", MARKUP),
    )
    for name in names.split()
}


@cache
def _marks(language: Language) -> re.Pattern[str]:
    """What can begin at a place in a line, the longest first."""
    spans = "|".join(re.escape(opening) for opening, _ in language.spans)
    parts = [f"(?P<span>{spans})"] if spans else []
    if language.comment == "#":
        parts.append(r"(?P<comment>(?<!\S)#.*)")
    elif language.comment:
        parts.append(f"(?P<comment>{re.escape(language.comment)}.*)")
    parts += [rf"(?P<string{index}>{q}(?:\\.|[^{q}\\])*{q}?)" for index, q in enumerate(language.quotes)]
    parts += [r"(?P<number>\b\d[\w.]*)", r"(?P<word>[^\W\d]\w*)"]
    return re.compile("|".join(parts))


class Highlighter:
    """Colours the lines of one block in their order. A language that nobody knows stays plain."""

    def __init__(self, language: str) -> None:
        self._language = LANGUAGES.get(language.strip().lower())
        self._closing = ""  # of what was opened and goes on in the next line
        self._style = ""

    def line(self, text: str) -> list[Span]:
        return list(self._spans(text, self._language)) if self._language else [(text, "")]

    def _spans(self, text: str, language: Language) -> Iterator[Span]:
        at = 0
        while at < len(text):
            if self._closing:
                end = text.find(self._closing, at)
                stop = len(text) if end < 0 else end + len(self._closing)
                yield text[at:stop], self._style
                at = stop
                self._closing = self._closing if end < 0 else ""
            elif found := _marks(language).search(text, at):
                yield text[at : found.start()], ""
                yield found[0], self._style_of(found, language)
                at = found.end()
            else:
                yield text[at:], ""
                at = len(text)

    def _style_of(self, found: re.Match[str], language: Language) -> str:
        kind = found.lastgroup or ""
        if kind == "span":
            self._closing = dict(language.spans)[found[0]]
            self._style = COMMENT if found[0] in ("/*", "<!--") else STRING
            return self._style
        if kind == "word":
            word = found[0].lower() if language is TABLES else found[0]
            return KEYWORD if word in language.words or word in ("None", "True", "False") else ""
        return {"comment": COMMENT, "number": NUMBER}.get(kind, STRING)
