"""The names nearest to one that nobody knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import SequenceMatcher

LEAST_CLOSENESS, SLIP = 0.6, 0.85


def nearest(text: str, among: Iterable[str]) -> list[str]:
    """At most three names: those that begin with `text`, the shortest first, then those that resemble it, best
    first."""
    known = {name.lower(): name for name in among}
    longer = sorted((name for name in known if text and name.startswith(text.lower())), key=len)
    alike = [name for name in known if closeness(text, name) >= LEAST_CLOSENESS]
    alike.sort(key=lambda name: (-closeness(text, name), len(name)))
    return [known[name] for name in dict.fromkeys((*longer, *alike))][:3]


def did_you_mean(text: str, among: Iterable[str], otherwise: str = "", sparing: Collection[str] = ()) -> str:
    """A question that names the nearest; `otherwise` where nothing comes near. sparing: what deletes or forgets, which
    is named for a slip of the finger and for no other word."""
    near = [name for name in nearest(text, among) if name not in sparing or closeness(text, name) > SLIP]
    return f"Did you mean {near[0]}?" if near else otherwise


def closeness(text: str, name: str) -> float:
    """How much a name resembles what was typed, from 0 to 1; a text without a size is held against the family alone,
    too."""
    text, name = text.lower(), name.lower()
    forms = (name,) if ":" in text else (name, name.partition(":")[0])
    return max(SequenceMatcher(None, text, form).ratio() for form in forms)
