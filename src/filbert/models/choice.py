"""Which quantisation of a model to take on this machine, where its name leaves that open.

The finest up to q8_0, which no test tells from the original, that fits in memory with a useful context and writes as
fast as one reads, by what the machine was measured to do or else by a cautious reckoning (`speed.assumed`). Headers are
read from the finest on, until one will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from filbert.core import machine
from filbert.core.errors import BadInput, BadModelFile, DownloadFailed, UnknownModel
from filbert.core.files import size
from filbert.core.machine import Memory
from filbert.core.settings import configured
from filbert.models import catalogue, speed
from filbert.models.download_options import DownloadOptions
from filbert.models.forecast import Forecast, forecast
from filbert.models.installed import find, meant
from filbert.models.name import Name
from filbert.models.quantisation import BITS_A_WEIGHT, bits_a_weight
from filbert.models.remote import need_network
from filbert.models.speed import USABLE_TPS, Calibration, kept_here

USEFUL_CONTEXT = 4096
UNMEASURED = "Speed is a cautious guess: `filbert fit` measures this machine."
FINEST = BITS_A_WEIGHT["q8_0"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One quantisation. size_bytes: of its files, None where nobody said."""

    name: str
    quantisation: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """name: what to pull; why: a sentence."""

    name: str
    why: str


def choose(text: str, options: DownloadOptions | None = None, threads: int | None = None) -> Choice | None:
    """The best of those that a name leaves open; None where there is nothing to choose. threads: those it will be run
    with, left out as many as there are cores. Raises BadInput where none fits, and what `look` raises."""
    options, name = options or configured(DownloadOptions), meant(text)
    if name.which or name.scheme not in ("catalogue", "hf"):
        return None
    with suppress(BadModelFile, UnknownModel):
        if find(text):
            return None
    offered = candidates(name, options)
    if len(offered) < 2:
        return None
    need_network(name.text)
    measured, memory = kept_here(threads), machine.memory()
    choice = best(name.text, offered, memory, lambda one: _forecast(one, memory, measured or speed.assumed(), options))
    return choice if measured else replace(choice, why=f"{choice.why} {UNMEASURED}")


def candidates(name: Name, options: DownloadOptions) -> Sequence[Candidate]:
    """What a name without a quantisation may mean."""
    if name.scheme == "catalogue":
        entries = catalogue.quantisations(name.where)
        return [Candidate(entry.name, entry.quantisation, entry.size_bytes) for entry in entries]
    from filbert.models.sources.hub import Hub

    need_network(name.text)
    return [Candidate(*offered) for offered in Hub().offered(name, options)]


def best(
    text: str, offered: Sequence[Candidate], memory: Memory, seen: Callable[[Candidate], Forecast | None]
) -> Choice:
    """seen: a candidate's forecast, None where its header cannot be read alone. Raises BadInput where none fits."""
    order = sorted(offered, key=lambda one: -(bits_a_weight(one.quantisation) or 0))
    fine = [one for one in order if (bits_a_weight(one.quantisation) or 0) <= FINEST] or order[-1:]
    slow: tuple[Candidate, Forecast] | None = None
    for one in fine:
        if one.size_bytes and one.size_bytes > memory.available:
            continue
        found = seen(one)
        if found is None:
            return Choice(one.name, f"Taking {one.name}, the finest whose size alone would fit.")
        if found.fits and _is_usable(found):
            return Choice(one.name, _why(one, found, is_finest=one is fine[0]))
        slow = (one, found) if found.fits else slow
    if slow:
        return Choice(
            slow[0].name, f"Taking {slow[0].name}: none is fast here, and it is the fastest ({_figures(slow[1])})."
        )
    raise BadInput(
        f"No quantisation of {text} fits into the {size(memory.available)} of memory that are free.",
        do=f"Close other programs, or take a smaller model; `filbert pull {fine[-1].name}` fetches it all the same.",
    )


def _is_usable(found: Forecast) -> bool:
    return found.empty is None or found.empty.generation is None or found.empty.generation >= USABLE_TPS


def _why(one: Candidate, found: Forecast, *, is_finest: bool) -> str:
    reason = "the finest that is useful" if is_finest else "the finest that fits this machine and is fast enough"
    return f"Taking {one.name}: {reason} ({_figures(found)})."


def _figures(found: Forecast) -> str:
    memory = f"{size(found.memory.total)} of the {size(found.available)} free with {found.context} tokens"
    tps = found.empty.generation if found.empty else None
    return f"{memory}, about {tps:.0f} tokens/s" if tps else memory


def _forecast(one: Candidate, memory: Memory, calibration: Calibration, options: DownloadOptions) -> Forecast | None:
    try:
        from filbert.models.remote_header import look  # brings httpx along, and most commands ask nobody

        headers = look(one.name, options).headers
    except DownloadFailed:
        return None
    return forecast(one.name, headers, memory, calibration, USEFUL_CONTEXT)
