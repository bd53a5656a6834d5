"""Bounds of whole numbers as the engine's grammar holds them: both, and closed.

With one bound alone its grammar lets numbers of fewer digits pass: 10 where 1001 is the least, 0 where -15 is the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor
from typing import Any

from filbert.core.errors import BadInput
from filbert.engine.schema import BOUNDS, Schema, mapped

MOST, MOST_OF_ENGINE = 2**53 - 1, 2**63 - 2  # every JSON reader has the first


def with_both_bounds(schema: Schema) -> dict[str, Any]:
    """The schema, each whole number of which has none or both. Raises BadInput where no number is between them."""
    return mapped(schema, _closed)


def _closed(part: Schema) -> Schema:
    kinds = part.get("type")
    bounds = {key: part[key] for key in BOUNDS if key in part}
    if not bounds or "integer" not in (kinds if isinstance(kinds, list) else [kinds]):
        return part
    low = max(_lower(bounds), default=-MOST)
    high = min(_upper(bounds), default=MOST if low <= MOST else MOST_OF_ENGINE)
    if "minimum" not in bounds and "exclusiveMinimum" not in bounds and high < -MOST:
        low = -MOST_OF_ENGINE
    if not -MOST_OF_ENGINE <= low <= high <= MOST_OF_ENGINE:
        raise BadInput(f"No whole number is from {low} to {high}, as a schema asks.", do="Change its bounds.")
    return {**{key: value for key, value in part.items() if key not in BOUNDS}, "minimum": low, "maximum": high}


def _lower(bounds: Schema) -> Iterator[int]:
    if "minimum" in bounds:
        yield ceil(bounds["minimum"])
    if "exclusiveMinimum" in bounds:
        yield floor(bounds["exclusiveMinimum"]) + 1


def _upper(bounds: Schema) -> Iterator[int]:
    if "maximum" in bounds:
        yield floor(bounds["maximum"])
    if "exclusiveMaximum" in bounds:
        yield ceil(bounds["exclusiveMaximum"]) - 1
