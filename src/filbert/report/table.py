"""A table of text: for a terminal and a pipe alike, or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LEAST = 12  # characters that a shortened column keeps


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None, may_shorten: Sequence[str] = ()
) -> str:
    """Columns aligned by blanks; numbers to the right. width: characters of a line, None for as many as it takes;
    may_shorten: the columns that give way where it is not enough, the first one first."""
    body = [list(row) for row in rows]
    if width is not None:
        _shorten(head, body, width, [head.index(column) for column in may_shorten])
    widths = [max(len(cell) for cell in column) for column in zip(head, *body, strict=True)]
    right = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(head), *(line(row) for row in body)])


def shortened(cell: str, most: int) -> str:
    """At most so many characters: a path keeps both its ends, words their beginning."""
    if len(cell) <= most:
        return cell
    end = most // 2 if "/" in cell and " " not in cell else 0
    return f"{cell[: most - end - 1]}…{cell[len(cell) - end :]}"


def _shorten(head: Sequence[str], body: Sequence[list[str]], width: int, columns: Sequence[int]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - width
    for column in columns:
        if over > 0:
            most = max(widths[column] - over, len(head[column]), LEAST)
            over -= max(0, widths[column] - most)
            for row in body:
                row[column] = shortened(row[column], most)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.lstrip("-").split(" ")[0].replace(".", "", 1).replace(",", "").isdigit()
