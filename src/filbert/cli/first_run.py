"""A `filbert chat` that nobody named a model for: what is here, and a few that fit, on one screen to choose from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filbert.cli.catalogue_table import size_of
from filbert.cli.console import hint, line_width, note, say
from filbert.cli.default_model import default_model, is_settled, last_used, of_kind
from filbert.cli.loading import consent, present
from filbert.core.errors import BadInput, Cancelled, DiskFull, DownloadFailed, OfflineRefused
from filbert.core.files import size
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.core.machine import Memory
    from filbert.models.offers import Offer
    from filbert.models.speed import Calibration
    from filbert.models.store import StoredModel

STARTER: str = Settings.model_fields["model"].default
WAYS_OUT = ("q", "quit", "exit", "/quit", "/bye")


@dataclass(frozen=True, slots=True)
class Row:
    """A model to choose. speed: tokens a second, "" where this machine was not measured."""

    name: str
    size: str
    licence: str
    why: str
    speed: str = ""


def first_model(settings: Settings, threads: int | None = None) -> str:
    """The model to talk to where none is named: the default one, or on a terminal without it what is chosen and
    fetched now. threads: those it will be run with. Raises Cancelled when the person leaves."""
    from filbert.models.store import list_models

    asks = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty() and not settings.quiet
    if not asks or is_settled(settings):
        return default_model(settings)
    here = of_kind(list_models(), "language")
    if len(here) == 1 or (not here and settings.offline):
        return default_model(settings)
    return Menu(here, settings, threads).chosen()


class Menu:
    """Nothing is measured for it: where no calibration is kept, no speed is told."""

    def __init__(self, here: Sequence[StoredModel], settings: Settings, threads: int | None) -> None:
        from filbert.core import machine
        from filbert.models.speed import kept_here

        self._settings, self._threads = settings, threads
        self._measured, memory = kept_here(threads), machine.memory()
        names = [model.name for model in here]
        self._default = (last_used(names, settings) or names[0]) if here else STARTER
        self._rows = [Row(model.name, size(model.size_bytes), model.licence or "?", "here already") for model in here]
        offered = [] if settings.offline else _offered(memory, self._measured)
        self._rows += [row for row in offered if row.name not in names]
        self._title = _title(size(memory.available), here, offered)

    def chosen(self) -> str:
        """A model that is here now. A wrong answer, or a model that cannot be had, leads to the question again."""
        self._show()
        while True:
            typed = self._typed()
            try:
                name = self._meant(typed)
                self._fetch(name)
                return name
            except (DownloadFailed, OfflineRefused, DiskFull) as exc:
                note(f"error: {exc}", self._settings)
                self._show()
            except (BadInput, Cancelled) as exc:
                note(str(exc), self._settings)

    def _show(self) -> None:
        say(self._title)
        say(as_screen(self._rows, line_width()))
        if not self._measured:
            hint("`filbert fit NAME` tells how fast one will be here.", self._settings)
        _forget_typed()

    def _typed(self) -> str:
        default = f"the starter ({STARTER})" if self._default == STARTER else self._default
        try:
            typed = input(f"A number, a name, Enter for {default}, or q: ").strip()
        except EOFError:
            typed = WAYS_OUT[0]
        if typed.lower() in WAYS_OUT:
            raise Cancelled("No model was chosen.", do=f"`filbert pull {STARTER}` fetches the starter.")
        return typed

    def _meant(self, typed: str) -> str:
        """The model that an answer means: of a row, or any other by its name. Raises BadInput for no row's number."""
        if not typed:
            return self._default
        if not typed.isdecimal():
            return _named(typed, [row.name for row in self._rows])
        if not 1 <= int(typed) <= len(self._rows):
            raise BadInput(f"There is no choice {typed}.", do=f"They go from 1 to {len(self._rows)}.")
        return self._rows[int(typed) - 1].name

    def _fetch(self, name: str) -> None:
        """A row says how large it is: to choose it is a yes."""
        is_shown = name == self._default or name in [row.name for row in self._rows]
        present(name, self._settings, self._threads, (lambda name: None) if is_shown else consent(self._settings))


def _named(typed: str, names: Sequence[str]) -> str:
    """The name that begins with what was typed; where none does, what was typed."""
    wanted = typed.lower()
    family = [name for name in names if wanted in (name.lower(), name.lower().partition(":")[0])]
    meant = family or [name for name in names if name.lower().startswith(wanted)]
    if len(meant) > 1:
        raise BadInput(f"{typed} may be {' or '.join(meant)}.", do="Type more of the name.")
    return meant[0] if meant else typed


def _forget_typed() -> None:
    """What was typed before the question was asked is no answer to it, and a number would begin a long download."""
    with suppress(ImportError):  # Windows keeps no such queue
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _title(free: str, here: Sequence[StoredModel], offered: Sequence[Row]) -> str:
    if not here:
        return f"There is no model here yet. {free} of memory are free, which hold any of these:"
    return f"Models are here. {free} of memory are free, which hold the others, too:" if offered else "Models are here:"


def _offered(memory: Memory, measured: Calibration | None) -> list[Row]:
    """The best first, the starter last."""
    from filbert.models import catalogue
    from filbert.models.offers import offer_of, offers

    found = [each for each in offers(catalogue.entries(), memory, measured) if each.entry.short != STARTER]
    starter = offer_of(catalogue.quantisations(STARTER)[0], measured)
    return [*(_row(offer, _why(offer, found)) for offer in found), _row(starter, "here in a moment")]


def _row(offer: Offer, why: str) -> Row:
    speed = "" if offer.tps is None else f"{offer.tps:.0f}"
    return Row(offer.entry.name, size_of(offer.entry), offer.entry.licence or "?", why, speed)


def _why(offer: Offer, found: Sequence[Offer]) -> str:
    """What sets it apart from the others."""
    if offer is found[0]:
        return "best all-round"
    if offer is min(found, key=lambda each: each.size_bytes):
        return "small and quick"
    told = {"vision": "sees images", "thinking": "thinks", "tools": "calls tools"}
    return next((word for can, word in told.items() if can in offer.entry.capabilities), "chats")


def as_screen(rows: Sequence[Row], width: int | None) -> str:
    """A table; where it is too wide, what is said of a model stands on a line of its own below it."""
    from filbert.report.table import table

    has_speed = any(row.speed for row in rows)
    head = ("", "model", "size", "licence", *(("tokens/s",) if has_speed else ()))
    cells = [
        (str(number), row.name, row.size, row.licence, *((row.speed,) if has_speed else ()))
        for number, row in enumerate(rows, 1)
    ]
    whys = [row.why for row in rows]
    whole = table((*head, "why"), [(*each, why) for each, why in zip(cells, whys, strict=True)])
    if width is None or max(map(len, whole.splitlines())) <= width:
        return whole
    first, *lines = table(head, cells).splitlines()
    return "\n".join([first, *(f"{line}\n   {why}" for line, why in zip(lines, whys, strict=True))])
