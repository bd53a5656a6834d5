"""Markdown as lines of a terminal. A blank line stands where one stands in the source, so that the lines of a part do
not depend on what follows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode as Node

from filbert.cli.highlight import Highlighter
from filbert.cli.styled import DIM, Line, Span, chop, line_cells, prefixed, styled, wrap

LEAST_COLUMN = 4
MOST_DEPTH = 50  # of marks within marks: the tree is read by calls within calls
BREAK = re.compile(r"<br\s*/?>")
STYLES = {"strong": "1", "em": "3", "s": "9", "link": "4"}
CODE = "36"


@cache
def _parser() -> MarkdownIt:
    """Without what reaches back: a link defined below would change a paragraph above."""
    return (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table", "strikethrough"])
        .disable(["reference", "html_block", "html_inline"])
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A block at the top, or an item of a list there. first: its first line in the source. apart: a blank line stands
    above it."""

    node: Node
    first: int
    apart: bool


def parts(source: str, above: str = "x") -> list[Part]:
    """The source in parts that end where the next begins. above: the line before the source."""
    lines = source.split("\n")
    root = Node(_bounded(_parser().parse(source if source.endswith("\n") else source + "\n")))
    return [Part(node, _first(node), _blank([above, *lines][_first(node)])) for node in _each_item(root)]


def _bounded(tokens: list[Token]) -> list[Token]:
    """Marks that stand too deep within others are shown as they were written."""
    depth = 0
    for token in tokens:
        closes = token.nesting < 0
        depth += token.nesting > 0
        if token.nesting and depth > MOST_DEPTH and token.tag != "a":  # links never stand within links
            token.type, token.content, token.nesting = "text", token.markup, 0
        depth -= closes
        _bounded(token.children or [])
    return tokens


def _each_item(root: Node) -> Iterator[Node]:
    for node in root.children:
        if node.type in ("bullet_list", "ordered_list"):
            yield from node.children
        else:
            yield node


def _first(node: Node) -> int:
    return node.map[0] if node.map else 0


def _blank(line: str) -> bool:
    return not line.strip(" \t>")


def laid_out(found: Sequence[Part], source: str, width: int) -> list[Line]:
    """The lines of parts of the source, the first without what stands above it."""
    sheet = _Sheet(source.split("\n"))
    lines: list[Line] = []
    for index, part in enumerate(found):
        lines += [[]] if part.apart and index else []
        lines += sheet.block(part.node, width)
    return lines


def fence_line(mark: str, language: str = "") -> Line:
    return [styled(mark + language, DIM)]


def is_closed_fence(node: Node) -> bool:
    first, end = node.map or (0, 0)
    return end - first == node.content.count("\n") + 2


class _Sheet:
    def __init__(self, source: list[str]) -> None:
        self._source = source
        self._makers: dict[str, Callable[[Node, int], list[Line]]] = {
            "paragraph": self._paragraph,
            "heading": self._heading,
            "list_item": self._item,
            "bullet_list": self._stack,
            "ordered_list": self._stack,
            "blockquote": self._quote,
            "fence": self._fence,
            "code_block": self._code,
            "hr": lambda node, width: [[styled("─" * max(width, 1), DIM)]],
            "table": self._table,
        }

    def block(self, node: Node, width: int) -> list[Line]:
        return self._makers[node.type](node, width)

    def _stack(self, node: Node, width: int) -> list[Line]:
        lines: list[Line] = []
        for index, child in enumerate(node.children):
            lines += [[]] if index and _blank(self._source[_first(child) - 1]) else []
            lines += self.block(child, width)
        return lines

    def _paragraph(self, node: Node, width: int) -> list[Line]:
        return wrap(_inline(node), width)

    def _heading(self, node: Node, width: int) -> list[Line]:
        return wrap(_inline(node, ("1", "4") if node.tag == "h1" else ("1",)), width)

    def _item(self, node: Node, width: int) -> list[Line]:
        mark = f"{node.info}{node.markup} " if node.info else "• "
        inside = self._stack(node, width - len(mark)) or [[]]
        return prefixed(inside, styled(mark, DIM if node.info else ""), (" " * len(mark), ""))

    def _quote(self, node: Node, width: int) -> list[Line]:
        bar = styled("│ ", DIM)
        return prefixed(self._stack(node, width - 2), bar, bar)

    def _fence(self, node: Node, width: int) -> list[Line]:
        closing = [fence_line(node.markup)] if is_closed_fence(node) else []
        return [*chop(fence_line(node.markup, node.info.strip()), width), *self._code(node, width), *closing]

    def _code(self, node: Node, width: int) -> list[Line]:
        highlighter = Highlighter((node.info.split() or [""])[0])
        lines = node.content.removesuffix("\n").split("\n") if node.content else []
        return [piece for line in lines for piece in chop(highlighter.line(line), width)]

    def _table(self, node: Node, width: int) -> list[Line]:
        rows = [row.children for group in node.children for row in group.children]
        columns = len(rows[0])
        texts = [[list(_inline(cell, ("1",) if cell.type == "th" else ())) for cell in row[:columns]] for row in rows]
        widths = _column_widths(texts, width - 3 * (columns - 1))
        if min(widths) < 1:  # too many for this screen
            return [line for row in texts for line in wrap(_joined(row, ("\n", "")), width)]
        sides = [str(cell.attrs.get("style", "")) for cell in rows[0]]
        lines = [line for row in texts for line in _row(row, widths, sides)]
        rule = styled("─┼─".join("─" * wide for wide in widths), DIM)
        head = len(_row(texts[0], widths, sides))
        return [*lines[:head], [rule], *lines[head:]]


def _column_widths(rows: list[list[Line]], room: int) -> list[int]:
    """As wide as the text in them; where that is more than the room, the widest give."""
    columns = list(zip_longest(*rows, fillvalue=[]))
    widths = [max(1, *(line_cells(cell) for cell in column)) for column in columns]
    if sum(widths) <= room:
        return widths
    if room < LEAST_COLUMN * len(widths):
        return [0] * len(widths)
    limit = max(widths)
    while sum(min(wide, limit) for wide in widths) > room:
        limit -= 1
    return [min(wide, limit) for wide in widths]


def _row(row: list[Line], widths: list[int], sides: list[str]) -> list[Line]:
    columns = [
        [_padded(line, wide, side) for line in wrap(cell, wide)]
        for cell, wide, side in zip(row, widths, sides, strict=True)
    ]
    height = max(map(len, columns))
    filled = [
        column + [[(" " * wide, "")]] * (height - len(column)) for column, wide in zip(columns, widths, strict=True)
    ]
    return [list(_joined(pieces, styled(" │ ", DIM))) for pieces in zip(*filled, strict=True)]


def _padded(line: Line, width: int, side: str) -> Line:
    blank = width - line_cells(line)
    left = blank if "right" in side else blank // 2 if "center" in side else 0
    return [(" " * left, ""), *line, (" " * (blank - left), "")]


def _joined(pieces: Sequence[Line], between: Span) -> Iterator[Span]:
    for index, piece in enumerate(pieces):
        if index:
            yield between
        yield from piece


def _inline(node: Node, styles: tuple[str, ...] = ()) -> Iterator[Span]:
    for child in node.children:
        if child.type == "text":
            yield styled(BREAK.sub("\n", child.content), *styles)
        elif child.type in ("softbreak", "hardbreak"):
            yield "\n", ""
        elif child.type == "code_inline":
            yield styled(child.content, *styles, CODE)
        elif child.type == "image":
            yield styled(f"[image {child.content}]({child.attrs.get('src', '')})", *styles, DIM)
        else:
            yield from _inline(child, (*styles, *filter(None, [STYLES.get(child.type)])))
        if child.type == "link" and (address := str(child.attrs.get("href", ""))) not in _text(child):
            yield styled(f" ({address})", *styles, DIM)


def _text(node: Node) -> str:
    return "".join(child.content if child.type == "text" else _text(child) for child in node.children)
