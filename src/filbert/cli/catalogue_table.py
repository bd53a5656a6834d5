"""Entries of the catalogue, as `filbert list --available` and `filbert search` show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from filbert.cli.console import line_width
from filbert.core.files import size

if TYPE_CHECKING:
    from filbert.models.catalogue import Entry


def as_table(entries: Iterable[Entry], here: Iterable[str]) -> str:
    """here: the names that are installed."""
    from filbert.report.table import table

    installed = set(here)
    rows = [
        (
            entry.name,
            size_of(entry),
            entry.licence or "?",
            " ".join(entry.capabilities),
            "yes" if entry.name in installed else "no",
        )
        for entry in entries
    ]
    return table(("name", "size", "licence", "can", "installed"), rows, line_width(), ("can",))


def size_of(entry: Entry) -> str:
    """Of its files; where no list states it, about what its parameters take."""
    from filbert.models.offers import likely_size

    likely, about = likely_size(entry), "" if entry.size_bytes else "about "
    return about + size(likely) if likely else "?"


def as_records(entries: Iterable[Entry], here: Iterable[str]) -> list[dict[str, Any]]:
    """For --json; what is not known is null."""
    installed = set(here)
    return [
        {
            "name": entry.name,
            "bytes": entry.size_bytes,
            "maker": entry.maker,
            "licence": entry.licence,
            "capabilities": entry.capabilities,
            "context": entry.context,
            "parameters": entry.parameters,
            "languages": entry.languages,
            "source": entry.source,
            "installed": entry.name in installed,
        }
        for entry in entries
    ]
