"""Whether what a model wrote keeps to a schema: for what it cannot be held to while it writes.

Patterns are left to the grammar, which holds them, and a `not` or its like that has one is passed over: an expression
of somebody else's may take for ever on a text.
"""

from __future__ import annotations

from typing import Any

from filbert.core.errors import BadInput
from filbert.engine.schema import BOUNDS, UNHELD, Schema, mapped, parts

CHECKED = frozenset((*UNHELD, *BOUNDS, "allOf", "oneOf", "multipleOf", "minProperties", "maxProperties"))
LEFT_TO_THE_GRAMMAR = frozenset(("pattern", "patternProperties", "format"))


def needs_check(schema: Schema) -> bool:
    """Whether anything in it is not surely held."""
    return any(CHECKED & part.keys() for part in parts(schema))


def breach(schema: Schema, value: Any) -> str:
    """What is wrong with a value, in a few words; "" where it keeps to the schema. Raises BadInput for one that is
    none."""
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    checkable = mapped(schema, _checkable)
    checker = jsonschema.Draft202012Validator(checkable, registry=Registry())  # which fetches nothing
    try:
        checker.check_schema(checkable)
        problem = next(checker.iter_errors(value), None)
    except (jsonschema.SchemaError, Unresolvable, RecursionError) as exc:
        why = f"{exc}".partition("\n")[0]
        raise BadInput("A call cannot be checked against its schema.", why=f"{why}.", do="Mend the schema.") from exc
    if problem is None:
        return ""
    return f"{'.'.join(map(str, problem.absolute_path)) or 'it'} breaks {problem.validator!r}"


def _checkable(part: Schema) -> dict[str, Any]:
    rest = {
        key: value
        for key, value in part.items()
        if key not in LEFT_TO_THE_GRAMMAR and not (key in UNHELD and _has_pattern(value))
    }
    if not isinstance(rest.get("multipleOf"), int):
        rest.pop("multipleOf", None)  # a quotient of two fractions is seldom whole, though it should be
    if isinstance(rest.get("items"), list):  # as drafts before 2020 spelled it
        rest["prefixItems"] = rest.pop("items")
        if "additionalItems" in rest:
            rest["items"] = rest.pop("additionalItems")
    return rest


def _has_pattern(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, dict) and bool(LEFT_TO_THE_GRAMMAR & value.keys())) or any(map(_has_pattern, inner))
