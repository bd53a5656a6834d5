"""A schema as llguidance's grammar, for what the engine's own does not hold: bounds of decimal numbers, multiples, and
how many names an object of any names has.

It is asked only for schemas that `ending_within` narrowed: what llguidance refuses, the engine passes over in silence.
"""

from __future__ import annotations

import json
from fractions import Fraction
from math import floor, inf
from typing import Any

from filbert.core.errors import BadInput
from filbert.engine.schema import BOUNDS, HELD_FORMATS, UNHELD, Schema, mapped, parts
from filbert.engine.schema_integers import MOST, with_both_bounds

MOST_DECIMAL = 10**12  # of a number whose bound is left out
STEP = 1e-6  # or its digits never end
MOST_NAMES = 8  # of an object that may have any
MULTIPLES = 100
ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def guided(schema: Schema) -> str | None:
    """The grammar; None where the engine's own holds all of the schema, or llguidance does not."""
    if not any(map(_needs_it, parts(schema))) or any(map(_is_refused, parts(schema))):
        return None
    held = mapped(with_both_bounds(schema), _spelled)
    return "%llguidance {}\nstart: %json " + json.dumps({**held, "x-guidance": ONE_LINE})


def _needs_it(part: Schema) -> bool:
    bounded = part.get("type") == "number" and any(key in part for key in BOUNDS)
    return bounded or "multipleOf" in part or _has_any_names(part)


def _is_refused(part: Schema) -> bool:
    return any(key in part for key in ("allOf", *UNHELD)) or part.get("format", "date") not in HELD_FORMATS


def _has_any_names(part: Schema) -> bool:
    return part.get("additionalProperties", False) is not False and not part.get("properties")


def _spelled(part: Schema) -> dict[str, Any]:
    if part.get("type") in ("integer", "number"):
        return _number(part)
    if isinstance(part.get("items"), list):
        items = part["items"]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if _has_any_names(part):
        return {**part, "maxProperties": MOST_NAMES}
    return dict(part)


def _number(part: Schema) -> dict[str, Any]:
    """With both bounds, and a step."""
    most, step = (MOST, 1) if part["type"] == "integer" else (MOST_DECIMAL, STEP)
    bounds = {key: part[key] for key in BOUNDS if key in part}
    most = max([most, *(2 * abs(bound) for bound in bounds.values())])
    if not bounds.keys() & {"minimum", "exclusiveMinimum"}:
        bounds["minimum"] = -most
    if not bounds.keys() & {"maximum", "exclusiveMaximum"}:
        bounds["maximum"] = most
    lowest = max(bounds[key] for key in ("minimum", "exclusiveMinimum") if key in bounds)
    highest = min(bounds[key] for key in ("maximum", "exclusiveMaximum") if key in bounds)
    if "multipleOf" in part:
        _need_multiple(part["multipleOf"], lowest, highest)
    if highest > 0:
        return {"type": part["type"], "multipleOf": part.get("multipleOf", step), **bounds}
    return _below_zero(part, bounds, highest)


def _need_multiple(step: float, low: float, high: float) -> None:
    """Raises BadInput where none is between them."""
    exact = _exact(step)
    if floor(_exact(high) / exact) * exact < _exact(low):
        raise BadInput(f"No multiple of {step} is from {low} to {high}, as a schema asks.", do="Change its bounds.")


def _exact(number: float) -> Fraction:
    """As it is written: three tenths are three times one."""
    return Fraction(str(number))


def _below_zero(part: Schema, bounds: dict[str, Any], highest: float) -> dict[str, Any]:
    """llguidance finds no multiples where all are negative: the nearest to zero are counted out."""
    step = part.get("multipleOf")
    if step is None:
        return {"type": part["type"], **bounds}
    first = floor(_exact(highest) / _exact(step))
    values = [type(step)(_exact(step) * (first - count)) for count in range(MULTIPLES)]
    low, above = bounds.get("minimum", -inf), bounds.get("exclusiveMinimum", -inf)
    under = bounds.get("exclusiveMaximum", inf)
    return {"enum": [value for value in values if low <= value and above < value < under]}
