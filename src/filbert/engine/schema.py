"""JSON schemas that an answer can be held to. What the engine would pass over in silence, or explode at, is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

from filbert.core.errors import BadInput

Schema = Mapping[str, Any]
MAX_BYTES = 64_000
MAX_DEPTH = 32
MAX_REPEAT = 2_000  # the engine's own bound; larger counts grow a grammar without end
COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
RANGES = (("minimum", "maximum"), ("minItems", "maxItems"), ("minLength", "maxLength"))
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
CHOICES = ("enum", "anyOf", "oneOf")
WITHIN_NAMES = ("properties", "patternProperties", "$defs", "definitions")
WITHIN = ("items", "prefixItems", "additionalItems", "additionalProperties", "anyOf", "oneOf", "allOf")

# Without a chat template the engine hands a schema to llguidance, and goes on without it where that refuses.
UNHELD = (
    *("not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "dependentRequired", "dependentSchemas"),
)
HELD_FORMATS = ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")


def bounded_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, unless it is none or its grammar would explode. Raises ValueError."""
    if len(json.dumps(schema)) > MAX_BYTES:
        raise ValueError(f"a schema may have {MAX_BYTES} bytes")
    _check_depth(schema, 0)
    for part in parts(schema):
        _check_form(part)
        _check_counts(part)
        if "$ref" in part:
            pointed(part["$ref"], schema)
        if isinstance(part.get("pattern"), str):
            _check_pattern(part["pattern"])
    return schema


def need_held_without_template(schema: Schema) -> None:
    """Raises BadInput for what only a chat's answer can be held to."""
    for part in parts(schema):
        wish = next((key for key in UNHELD if key in part), "")
        if part.get("format", "date") not in HELD_FORMATS:
            wish = f"format {part['format']!r:.40}"
        if wish:
            raise BadInput(
                f"Text that goes on from a prompt cannot be held to a schema with {wish}.",
                do="Leave that out, or ask in a chat.",
            )


def moved(schema: Schema, to: str) -> dict[str, Any]:
    """The schema for a place within another, whose pointer is `to`: what it refers to lies there now."""
    return mapped(
        schema, lambda part: {**part, "$ref": to + part["$ref"].removeprefix("#")} if "$ref" in part else part
    )


def mapped(schema: Schema, change: Callable[[Schema], Schema]) -> dict[str, Any]:
    """The schema with a change to it and to each within it."""

    def within(value: Any) -> Any:
        return mapped(value, change) if isinstance(value, Mapping) else value

    def one(key: str, value: Any) -> Any:
        if key in WITHIN_NAMES and isinstance(value, Mapping):
            return {name: within(part) for name, part in value.items()}
        if key in WITHIN:
            return [within(part) for part in value] if isinstance(value, list) else within(value)
        return value

    return {key: one(key, value) for key, value in change(schema).items()}


def without_unheld_patterns(schema: Schema) -> dict[str, Any]:
    """The schema without the patterns that no answer can be held to: for one whose values are checked elsewhere."""
    return mapped(schema, _without_unheld_pattern)


def _without_unheld_pattern(part: Schema) -> Schema:
    try:
        _check_pattern(str(part.get("pattern", "^$")))
    except ValueError:
        return {key: value for key, value in part.items() if key != "pattern"}
    return part


def check_repeats(text: str) -> None:
    """Raises ValueError for a grammar or pattern that counts too far."""
    counts = (count for bounds in re.findall(r"\{([\d,\s]+)\}", text) for count in re.findall(r"\d+", bounds))
    if any(int(count) > MAX_REPEAT for count in counts):
        raise ValueError(f"a repetition may count to {MAX_REPEAT}")


def parts(schema: Schema) -> Iterator[Schema]:
    """The schema and those within it; a property's name or a constant may look like one and is none."""
    yield schema
    for key, value in schema.items():
        inner: Any = ()
        if key in WITHIN_NAMES and isinstance(value, Mapping):
            inner = value.values()
        elif key in WITHIN:
            inner = value if isinstance(value, list) else [value]
        for part in inner:
            if isinstance(part, Mapping):
                yield from parts(part)


def _check_depth(node: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"a schema may be {MAX_DEPTH} deep")
    inner = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for value in inner:
        _check_depth(value, depth + 1)


def _check_form(part: Schema) -> None:
    kinds = part.get("type", "object")
    if not kinds or any(kind not in TYPES for kind in (kinds if isinstance(kinds, list) else [kinds])):
        raise ValueError(f"the type {str(kinds)[:40]!r} is unknown")
    for key in CHOICES:
        if key in part and not (isinstance(part[key], list) and part[key]):
            raise ValueError(f"{key} holds no choices")
    if not isinstance(part.get("properties", {}), Mapping):
        raise ValueError("properties is no object")


def _check_counts(part: Schema) -> None:
    for key in COUNTS:
        if key in part and not (type(part[key]) is int and 0 <= part[key] <= MAX_REPEAT):
            raise ValueError(f"{key} is a whole number from 0 to {MAX_REPEAT}")
    for key in BOUNDS:
        if key in part and not _is_finite(part[key]):
            raise ValueError(f"{key} is a number")
    if "multipleOf" in part and not (_is_finite(part["multipleOf"]) and part["multipleOf"] > 0):
        raise ValueError("multipleOf is a number above 0")
    for least, most in RANGES:
        if least in part and most in part and part[least] > part[most]:
            raise ValueError(f"{least} is above {most}: nothing holds to it")


def pointed(reference: object, root: Schema) -> Any:
    """What a $ref leads to. Raises ValueError."""
    found: Any = root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        raise ValueError(f"the $ref {str(reference)[:40]!r} is none within the schema (#/…)")
    for name in reference[2:].split("/"):
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping) and name in found:
            found = found[name]
        else:
            raise ValueError(f"the $ref {reference[:40]!r} leads nowhere")
    return found


def _check_pattern(pattern: str) -> None:
    """The engine holds answers to whole patterns only, and passes over the others in silence."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as exc:
        raise ValueError(f"the pattern {pattern[:40]!r} is broken: {exc}") from exc
    except RecursionError as exc:
        raise ValueError(f"the pattern {pattern[:40]!r} is nested too deep") from exc
    if not (pattern.startswith("^") and pattern.endswith("$")) or "(?" in pattern:
        raise ValueError(f"the pattern {pattern[:40]!r} cannot be held to: write it as ^…$, without (?…)")
    check_repeats(pattern)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf
