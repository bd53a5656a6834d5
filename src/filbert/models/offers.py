"""What to offer somebody who has no model yet: the best of the catalogue that this machine can run.

Of each family the largest that is soon downloaded, fits and is fast enough, by what the machine was measured to do or
else by a cautious reckoning (`speed.assumed`); first those that can most. Sizes that no list states follow from the
parameters and the quantisation, and are said to be about so much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from filbert.core.machine import Memory
from filbert.models.catalogue import Entry
from filbert.models.catalogue import entries as all_entries
from filbert.models.name import parse
from filbert.models.quantisation import bits_a_weight
from filbert.models.speed import USABLE_TPS, Calibration, assumed, roughly

SAID = re.compile(r":(\d+(?:\.\d+)?)([mb])\b")  # smollm2:135m; not the e2b of gemma, whose files hold more
SHARE_OF_MEMORY = 0.8  # the rest is for the context
FIRST_TRY_BYTES = 8e9  # nobody waits for more to try a program out
FIRST_TRY_SHARE = 1 / 3  # of the free memory
MOST = 4
ACTIVE = re.compile(r"-a(\d+(?:\.\d+)?)b\b")  # qwen3:30b-a3b computes three billion of its weights a token


@dataclass(frozen=True, slots=True)
class Offer:
    """tps: tokens a second it is expected to write; None where this machine was not measured."""

    entry: Entry
    size_bytes: int
    tps: float | None


def offers(entries: Iterable[Entry], memory: Memory, machine: Calibration | None) -> list[Offer]:
    """At most four, the best first."""
    best: dict[str, Offer] = {}
    for offer in _fitting(entries, memory, machine):
        if offer.size_bytes > min(FIRST_TRY_BYTES, FIRST_TRY_SHARE * memory.available):
            continue
        family = offer.entry.name.partition(":")[0]
        if family not in best or offer.size_bytes > best[family].size_bytes:
            best[family] = offer
    order = sorted(best.values(), key=lambda offer: (-len(offer.entry.capabilities), -offer.size_bytes))
    return order[:MOST]


def _fitting(entries: Iterable[Entry], memory: Memory, machine: Calibration | None) -> Iterator[Offer]:
    reckoned = machine or assumed()
    for entry in entries:
        if "chat" not in entry.capabilities or not entry.licence or not likely_size(entry):
            continue
        offer = offer_of(entry, machine)
        is_usable = _tps(entry, offer.size_bytes, reckoned) >= USABLE_TPS
        if is_usable and has_room(offer, memory):
            yield offer


def offer_of(entry: Entry, machine: Calibration | None) -> Offer:
    size_bytes = likely_size(entry) or 0
    return Offer(entry, size_bytes, _tps(entry, size_bytes, machine) if machine else None)


def has_room(offer: Offer, memory: Memory) -> bool:
    """Whether memory is left for the context beside the weights."""
    return offer.size_bytes <= SHARE_OF_MEMORY * memory.available


def known_offer(text: str, machine: Calibration | None) -> Offer | None:
    """What the catalogue alone tells of a name; None where it states no size, or does not have it."""
    name = parse(text).text
    entry = next((entry for entry in all_entries() if name in (entry.name, entry.short)), None)
    return offer_of(entry, machine) if entry and likely_size(entry) else None


def likely_size(entry: Entry) -> int | None:
    """Bytes of its files, or what its parameters take; None where neither is stated."""
    bits, parameters = bits_a_weight(entry.quantisation), entry.parameters or _said(entry.name)
    if entry.size_bytes is None and parameters and bits:
        return int(parameters * bits / 8)
    return entry.size_bytes


def _said(name: str) -> float | None:
    """The parameters that a name says: smollm2:135m."""
    said = SAID.search(name)
    return float(said[1]) * {"m": 1e6, "b": 1e9}[said[2]] if said else None


def _tps(entry: Entry, size_bytes: int, machine: Calibration) -> float:
    weights = entry.parameters or 8 * size_bytes / (bits_a_weight(entry.quantisation) or 16)
    active = ACTIVE.search(entry.name)
    return roughly(min(weights, float(active[1]) * 1e9) if active else weights, size_bytes, entry.quantisation, machine)
