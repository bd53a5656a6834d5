"""A schema narrowed so that an answer held to it ends within the tokens there are: what it leaves open gets a bound.

Whatever holds to the narrowed schema holds to the given one. A model that repeats itself without end is brought to one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from filbert.engine.schema import MAX_REPEAT, Schema, parts, pointed

Held = dict[str, Any]

LEVELS = 4  # of what holds itself: the last holds no more
LEAST = 16  # tokens, below which nothing that holds itself is begun
LEAST_TEXT = 32  # characters that a text may have in any case: a few words are a few tokens
CLOSED = ("const", "enum")
FIXED = ("integer", "number", "boolean", "null")  # the engine bounds their digits
CHOICES = ("oneOf", "anyOf")
MAX_DEFS = 2_000
LEVELS_OF_ANYTHING = 2
SCALARS = tuple({"type": kind} for kind in ("string", "number", "boolean", "null"))
ANYTHING = (*SCALARS, {"type": "array"}, {"type": "object"})
# As JSON writes it. Of these the engine counts as many as one likes, in fours; of its own, MAX_REPEAT.
UNSAFE = r'"\\\x7F\x00-\x1F'
CHARACTER = rf'([^{UNSAFE}]|\\["\\bfnrt])'
PIECE = re.compile(
    r"(?P<wild>\.|\[\^(?:\\.|[^\]\\])*\])|\\.|\[(?:\\.|[^\]\\])*\]|(?P<count>[*+]|\{(?P<least>\d+),\})", re.DOTALL
)


def ending_within(schema: Schema, tokens: int) -> Held:
    """The schema, narrowed. It comes back as it was where nothing that holds to it could end."""
    narrowing = _Narrowing(schema)
    held = narrowing.part(schema, tokens, 0)
    return dict(schema) if held is None else {**held, "$defs": narrowing.defs}


class _Narrowing:
    """Parts of a schema by the tokens that each may have. None stands for what cannot end within them."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._names: dict[tuple[str, int, int], str] = {}
        self._circular: dict[str, bool] = {}
        self.defs: dict[str, Held] = {}

    def part(self, part: Any, tokens: int, level: int) -> Held | None:
        if not isinstance(part, Mapping):  # true allows anything, false nothing
            return self.part({}, tokens, level) if part else None
        if "$ref" in part:
            return self._reference(part["$ref"], tokens, level)
        if found := next((key for key in CHOICES if key in part), ""):
            return self._choice(part[found], tokens, level)
        kind = part.get("type")
        if closed := next((key for key in CLOSED if key in part), ""):
            return {closed: part[closed]}
        if isinstance(kind, list):
            return self._choice([{**part, "type": each} for each in kind], tokens, level)
        if kind in FIXED:
            return dict(part)
        return self._open(part, kind or _meant(part), tokens, level)

    def _open(self, part: Schema, kind: str, tokens: int, level: int) -> Held | None:
        if kind == "allOf":
            return self._all(part["allOf"], tokens, level)
        if kind == "object":
            return self._object(part, tokens, level)
        if kind == "array":
            return self._array(part, tokens, level)
        if kind == "string":
            return self._string(part, tokens)
        return self._named("", _rounded(tokens), level, self._anything)

    def _anything(self, tokens: int, level: int) -> Held | None:
        return self._choice(ANYTHING if level < LEVELS_OF_ANYTHING else SCALARS, tokens, level)

    def _reference(self, pointer: str, tokens: int, level: int) -> Held | None:
        target = pointed(pointer, self._root)
        tokens = _rounded(tokens)
        if not self._is_circular(pointer):
            return self._named(pointer, tokens, level, lambda share, below: self.part(target, share, below))
        if level >= LEVELS or tokens < LEAST:
            return None
        return self._named(pointer, tokens, level + 1, lambda share, below: self.part(target, share, below))

    def _named(self, name: str, tokens: int, level: int, narrowed: Callable[[int, int], Held | None]) -> Held | None:
        """A reference to what stands in one place for all that use it with as many tokens."""
        key = (name, tokens, level)
        if key not in self._names:
            if len(self._names) >= MAX_DEFS:
                return None
            self._names[key] = f"part{len(self._names)}"
            if (held := narrowed(tokens, level)) is not None:
                self.defs[self._names[key]] = held
        return {"$ref": f"#/$defs/{self._names[key]}"} if self._names[key] in self.defs else None

    def _is_circular(self, pointer: str) -> bool:
        if pointer not in self._circular:
            self._circular[pointer] = pointer in self._reached(pointer)
        return self._circular[pointer]

    def _reached(self, pointer: str) -> set[str]:
        found: set[str] = set()
        left = [pointer]
        while left:
            named = {each["$ref"] for each in parts(pointed(left.pop(), self._root)) if "$ref" in each}
            left += named - found
            found |= named
        return found

    def _choice(self, choices: Any, tokens: int, level: int) -> Held | None:
        held = [found for each in choices if (found := self.part(each, tokens, level)) is not None]
        return {"anyOf": held} if held else None

    def _all(self, given: Any, tokens: int, level: int) -> Held | None:
        held = [self.part(each, tokens // len(given), level) for each in given]
        return None if None in held else {"allOf": held}

    def _object(self, part: Schema, tokens: int, level: int) -> Held | None:
        required = part.get("required", [])
        rest = part.get("additionalProperties", "properties" not in part)
        # The engine asks for no name that the properties leave out.
        undeclared = {name: rest if isinstance(rest, Mapping) else {} for name in required} if rest else {}
        properties = {**undeclared, **part.get("properties", {})}
        share = self._share(properties, tokens, rest)
        held = {name: self.part(each, share, level) for name, each in properties.items()}
        if any(name in required and each is None for name, each in held.items()):
            return None
        kept = {name: each for name, each in held.items() if each is not None}
        # A name that was left out must not come back as one of the others.
        more = self._rest(rest, share, level) if len(kept) == len(held) else None
        return {
            "type": "object",
            "properties": kept,
            "required": [name for name in required if name in kept],
            "additionalProperties": False if more is None else more,
        }

    def _rest(self, rest: Any, share: int, level: int) -> Held | None:
        if rest is False or (level >= LEVELS and rest in (True, {})):
            return None
        return self.part(rest if isinstance(rest, Mapping) else {}, share // 4, level + 1)

    def _share(self, properties: Schema, tokens: int, rest: Any) -> int:
        """What an open part may have, once names and marks are written."""
        n_open = sum(not _is_closed(each) for each in properties.values()) + bool(rest)
        marks = sum(len(name) // 3 + 8 for name in properties)
        return max(0, tokens - marks) // max(1, n_open)

    def _array(self, part: Schema, tokens: int, level: int) -> Held | None:
        items = part.get("items", part.get("prefixItems", {}))
        if isinstance(items, list):
            each_of = [self.part(each, tokens // max(1, len(items)), level) for each in items]
            return None if None in each_of else {"type": "array", "items": each_of}
        least = part.get("minItems", 0)
        most = max(least, min(part.get("maxItems", MAX_REPEAT), max(1, self._fitting(items, tokens))))
        below = level + (items in ({}, True))
        held = self.part(items, tokens // max(1, most), below) if below <= LEVELS else None
        if held is None or most == 0:
            return None if least else {"const": []}
        return {"type": "array", "items": held, "minItems": least, "maxItems": most}

    def _fitting(self, items: Any, tokens: int) -> int:
        """How many items: of those that hold themselves few, so that they may do so deeper."""
        if _is_closed(items):
            return tokens // 16
        named = {each["$ref"] for each in parts(items) if "$ref" in each} if isinstance(items, Mapping) else set()
        return isqrt(isqrt(tokens)) if any(map(self._is_circular, named)) else isqrt(tokens) * 3 // 4

    def _string(self, part: Schema, tokens: int) -> Held | None:
        if "pattern" in part:
            return {"type": "string", "pattern": bounded_pattern(part["pattern"], tokens)}
        least = part.get("minLength", 0)
        room = max(LEAST_TEXT, _rounded(tokens))
        most = max(least, min(part.get("maxLength", room), room))
        kept = {key: part[key] for key in ("format", "minLength") if key in part}
        if most > MAX_REPEAT and not kept:
            most_fours = min(MAX_REPEAT, most // 4)
            kept["pattern"] = f"^({CHARACTER}{{4}}){{0,{most_fours}}}{CHARACTER}{{0,3}}$"
        shared = f"string{sorted(kept.items())}"
        return self._named(shared, most, 0, lambda length, _: _text(kept, max(least, min(length, MAX_REPEAT))))


def _text(kept: Schema, most: int) -> Held:
    return {"type": "string", **kept} if "pattern" in kept else {"type": "string", **kept, "maxLength": most}


def _rounded(tokens: int) -> int:
    """To three binary digits, downwards: few sizes make a small grammar."""
    shift = max(0, tokens.bit_length() - 3)
    return tokens >> shift << shift


def _meant(part: Schema) -> str:
    """The type of a schema that names none, as the engine reads it; "" for anything."""
    if "properties" in part or part.get("additionalProperties", True) is not True:
        return "object"
    if "allOf" in part:
        return "allOf"
    if "items" in part or "prefixItems" in part:
        return "array"
    return "string" if part.keys() & {"pattern", "minLength", "maxLength", "format"} else ""


def _is_closed(part: Any) -> bool:
    return isinstance(part, Mapping) and ("const" in part or "enum" in part or part.get("type") in FIXED)


def bounded_pattern(pattern: str, tokens: int) -> str:
    """The pattern, whose repetitions end, and whose wildcards take no mark that would end or break the string."""
    n_open = sum(bool(found["count"]) for found in PIECE.finditer(pattern))
    # A repetition within one multiplies the rules of the grammar, of which there may be MAX_REPEAT.
    most = min(MAX_REPEAT // 2, tokens // max(1, n_open), *([30] if re.search(r"\)[*+{]", pattern) else []))
    return PIECE.sub(lambda found: _bounded_piece(found, most), pattern)


def _bounded_piece(found: re.Match[str], most: int) -> str:
    if found["count"]:
        least = {"*": 0, "+": 1}.get(found["count"]) or int(found["least"] or 0)
        return f"{{{least},{max(least, most, 1)}}}"
    if found["wild"]:
        return f"[^{UNSAFE}]" if found["wild"] == "." else f"[^{UNSAFE}{found['wild'][2:]}"
    return found[0]
