"""Whether what a model wrote keeps to a schema: for what it cannot be held to while it writes.

Patterns are left to the grammar, which holds them: an expression of somebody else's may take for ever on a text.
"""

from __future__ import annotations

from typing import Any

from filbert.engine.schema import UNHELD, Schema, mapped, parts
from filbert.engine.schema_integers import BOUNDS

CHECKED = frozenset((*UNHELD, *BOUNDS, "allOf", "oneOf", "multipleOf", "minProperties", "maxProperties"))
LEFT_TO_THE_GRAMMAR = frozenset(("pattern", "patternProperties", "format"))


def needs_check(schema: Schema) -> bool:
    """Whether anything in it is not surely held."""
    return any(CHECKED & part.keys() for part in parts(schema))


def breach(schema: Schema, value: Any) -> str:
    """What is wrong with a value, in a few words; "" where it keeps to the schema."""
    import jsonschema
    from referencing import Registry

    checker = jsonschema.Draft202012Validator(mapped(schema, _checkable), registry=Registry())  # which fetches nothing
    problem = next(checker.iter_errors(value), None)
    if problem is None:
        return ""
    return f"{'.'.join(map(str, problem.absolute_path)) or 'it'} breaks {problem.validator!r}"


def _checkable(part: Schema) -> dict[str, Any]:
    rest = {key: value for key, value in part.items() if key not in LEFT_TO_THE_GRAMMAR}
    if not isinstance(rest.get("multipleOf"), int):
        rest.pop("multipleOf", None)  # a quotient of two fractions is seldom whole, though it should be
    if isinstance(rest.get("items"), list):  # as drafts before 2020 spelled it
        rest["prefixItems"] = rest.pop("items")
        if "additionalItems" in rest:
            rest["items"] = rest.pop("additionalItems")
    return rest
