"""A report as one HTML file that needs nothing else, or as Markdown: sections of tables, intervals and commands.

The page runs no script and fetches nothing, which its own policy (CSP) holds a browser to. Names and licences come out
of model files: all text is escaped. Intervals are drawn as lines between words, so that they fit a phone and paper.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from filbert.report.table import markdown as markdown_table

STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True, slots=True)
class Cell:
    """small: what stands beneath; note: the number of a note, or 0."""

    text: str
    small: str = ""
    note: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Commands:
    """What a reader may run."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names its row. marked: the rows that stand out."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """value, low, high: places between 0 and 1; low and high alike where nobody told an interval. marked: it stands
    out."""

    label: str
    told: str
    value: float
    low: float
    high: float
    marked: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of one scale, from nothing to what `end` tells. Left out of Markdown: the table has its numbers."""

    title: str
    end: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Notes:
    """Numbered from 1: words, and the command that makes a number again."""

    each: Sequence[tuple[str, str]]


Block = Words | Commands | Table | Chart | Notes


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    lead: str
    sections: Sequence[Section]


def html(page: Page) -> str:
    style = STYLE.read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">',
            f"<title>{_html(page.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
            f"<h1>{_html(page.title)}</h1>\n<p>{_html(page.lead)}</p>",
            *(_section(section) for section in page.sections),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{_html(section.title)}</h2>"]
    charts = [block for block in section.blocks if isinstance(block, Chart)]
    for block in section.blocks:
        if not isinstance(block, Chart):
            parts.append(_block(block, section.title))
        elif block is charts[0]:
            parts += ['<div class="charts">', *map(_chart, charts), "</div>"]
    return "\n".join([*parts, "</section>"])


def _block(block: Words | Commands | Table | Notes, title: str) -> str:
    match block:
        case Words():
            return f"<p>{_html(block.text)}</p>"
        case Commands():
            return "<pre><code>" + "\n".join(map(_html, block.lines)) + "</code></pre>"
        case Table():
            head = "".join(f'<th scope="col">{_html(each)}</th>' for each in block.head)
            rows = "\n".join(_row(row, is_marked=at in block.marked) for at, row in enumerate(block.rows))
            opened = f'<div class="wide" role="region" aria-label="{_html(title)}" tabindex="0">'
            return f"{opened}<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        case Notes():
            each = (
                f'<li id="note-{number}">{_html(words)}<br><code>{_html(command)}</code></li>'
                for number, (words, command) in enumerate(block.each, 1)
            )
            return "<ol>\n" + "\n".join(each) + "\n</ol>"


def _row(cells: Sequence[Cell], *, is_marked: bool) -> str:
    first, *others = map(_cell, cells)
    opened = '<tr class="marked">' if is_marked else "<tr>"
    return f'{opened}<th scope="row">{first}</th>' + "".join(f"<td>{each}</td>" for each in others) + "</tr>"


def _cell(cell: Cell) -> str:
    note = f'<sup><a href="#note-{cell.note}">{cell.note}</a></sup>' if cell.note else ""
    small = f"<small>{_html(cell.small)}</small>" if cell.small else ""
    return _html(cell.text) + note + small


def _chart(chart: Chart) -> str:
    bars = "\n".join(map(_bar, chart.bars))
    return (
        f"<figure>\n<figcaption>{_html(chart.title)} <small>0 to {_html(chart.end)}</small></figcaption>\n"
        f"{bars}\n</figure>"
    )


def _bar(bar: Bar) -> str:
    value, low, high = (f"{100 * min(max(place, 0), 1):.2f}" for place in (bar.value, bar.low, bar.high))
    interval = f'<path class="interval" d="M{low} 6H{high}M{low} 3V9M{high} 3V9"/>' if low != high else ""
    kind = "bar marked" if bar.marked else "bar"
    return (
        f'<div class="{kind}"><span>{_html(bar.label)}</span><span>{_html(bar.told)}</span>'
        '<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="12"/><rect class="value" width="{value}" y="2" height="8"/>'
        f"{interval}</svg></div>"
    )


def _html(text: str) -> str:
    return escape(printable(text))


def printable(text: str) -> str:
    """Without what moves a cursor, turns a line around or is no character, each of which a model's file may hold."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") else each for each in text)


def markdown(page: Page) -> str:
    parts = [f"# {_markdown(page.title)}", _markdown(page.lead)]
    for section in page.sections:
        parts += [f"## {_markdown(section.title)}", *_markdown_blocks(section)]
    return "\n\n".join(parts) + "\n"


def _markdown_blocks(section: Section) -> Iterator[str]:
    for block in section.blocks:
        match block:
            case Words():
                yield _markdown(block.text)
            case Commands():
                yield "\n".join(f"- {_code(line)}" for line in block.lines)
            case Table():
                rows = [
                    [_bold(cell) if at in block.marked else _markdown_cell(cell) for cell in row]
                    for at, row in enumerate(block.rows)
                ]
                yield markdown_table([_markdown(each) for each in block.head], rows)
            case Notes():
                yield "\n".join(
                    f"{number}. {_markdown(words)}: {_code(command)}"
                    for number, (words, command) in enumerate(block.each, 1)
                )


def _markdown_cell(cell: Cell) -> str:
    small = f" ({_markdown(cell.small)})" if cell.small else ""
    return _markdown(cell.text) + small + (f" [{cell.note}]" if cell.note else "")


def _bold(cell: Cell) -> str:
    return f"**{_markdown_cell(cell)}**"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", printable(text))


def _code(text: str) -> str:
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"
