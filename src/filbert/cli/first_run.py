"""The first `filbert chat`: no model is here yet, so a few are offered on one screen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from filbert.cli.catalogue_table import size_of
from filbert.cli.console import hint, line_width, note, say
from filbert.cli.default_model import default_model
from filbert.core.errors import Cancelled
from filbert.core.files import size
from filbert.core.settings import Settings, configured
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.models.offers import Offer

STARTER = Settings.model_fields["model"].default
OFFER_TRIES = 3


def first_model(settings: Settings) -> str:
    """The model to talk to where none is named: the setting, or on a terminal without any model what is chosen now.
    Raises Cancelled when the person leaves."""
    from filbert.models.manifest import installed_names

    if installed_names():
        return default_model(settings)
    asks = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty() and not settings.quiet
    if settings.model != STARTER or settings.offline or not asks:
        return settings.model
    return offered(settings)


def offered(settings: Settings) -> str:
    """The model that a person chooses. Nothing is measured for it: where no calibration is kept, no speed is told."""
    from filbert.core import machine
    from filbert.models import catalogue
    from filbert.models.choice import kept_here
    from filbert.models.offers import offer_of, offers

    measured, memory = kept_here(configured(LoadOptions).threads), machine.memory()
    found = offers(catalogue.entries(), memory, measured)
    starter = offer_of(catalogue.quantisations(STARTER)[0], measured)
    say(f"There is no model here yet. {size(memory.available)} of memory are free, which hold any of these:")
    say(as_screen(found, starter))
    if not measured:
        hint("`filbert fit NAME` tells how fast one will be here.", settings)
    _forget_typed()
    for _ in range(OFFER_TRIES):
        typed = _typed(f"A number, or Enter for the starter ({STARTER}): ")
        if not typed or typed.lower() in ("s", STARTER):
            break
        if typed.isdecimal() and 1 <= int(typed) <= len(found):
            return found[int(typed) - 1].entry.name
        note(f"There is no choice {typed!r}.", settings)
    note(f"The starter, {STARTER}.", settings)
    return str(STARTER)


def _forget_typed() -> None:
    """What was typed before the question was asked is no answer to it, and a number would begin a long download."""
    with suppress(ImportError):  # Windows keeps no such queue
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _typed(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError as exc:
        raise Cancelled("No model was chosen.", do=f"`filbert pull {STARTER}` fetches the starter.") from exc


def as_screen(found: Sequence[Offer], starter: Offer) -> str:
    from filbert.report.table import table

    rows = [(str(number), *_row(offer, _why(offer))) for number, offer in enumerate(found, 1)]
    rows.append(("Enter", *_row(starter, "the starter: here in a moment")))
    speed = () if starter.tps is None else ("tokens/s",)
    return table(("", "model", "size", "licence", *speed, "why"), rows, line_width(), ("why",))


def _row(offer: Offer, why: str) -> tuple[str, ...]:
    speed = () if offer.tps is None else (f"{offer.tps:.0f}",)
    return offer.entry.name, size_of(offer.entry), offer.entry.licence or "?", *speed, why


def _why(offer: Offer) -> str:
    can = ", ".join(capability for capability in offer.entry.capabilities if capability != "chat")
    return f"{can}; the largest of its family" if can else "the largest of its family"
