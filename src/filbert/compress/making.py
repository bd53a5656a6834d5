"""What a compressed file says of its making, in keys of its header:

    filbert.source.name, .sha256        the model it was made from; the hash of its file, or of the hashes of its files
    filbert.recipe.name, .sha256        the recipe; the hash of which type it gave to which tensor
    filbert.imatrix.sha256              "" where there was none
    filbert.command                     what makes it again, without anybody's folders
    filbert.equalised.exponent          of `equalise.py`; NaN where the source was rounded as it is
    filbert.versions                    what made it
    filbert.trained.steps               after the quantiser, by --effort; 0 where it was not
    filbert.measured.text, .sha256      what it was measured on beside its source, in windows of `.window` tokens
    filbert.measured.kinds, .tokens     kinds of text, the first of them all together, and the tokens of each
    filbert.measured.kl, .perplexity_ratio, .same_top      of each kind three numbers: a value, and its 95 % interval

It is measured when all else is written. These keys have one length whatever the numbers, so that no weight has to move:
a file that was not measured has no tokens there, and NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from filbert.engine import capi_layout
from filbert.engine.fidelity import Fidelity, Figure
from filbert.models.gguf_write import Value
from filbert.models.header import Header
from filbert.version import __version__

KINDS = ("all", "chat", "code", "prose", "rare scripts")
TEXT = "check texts of Filbert"
VERSIONS = f"filbert {__version__}, xllamacpp {capi_layout.VERSION}"
NO_HASH = "0" * 64
FIGURES = ("kl", "perplexity_ratio", "same_top")
UNKNOWN = Figure(math.nan, (math.nan, math.nan))


@dataclass(frozen=True, slots=True)
class Kind:
    """What compression cost on a kind of text. kl: the mean KL divergence from the source, nats a token; same_top: the
    share of tokens at which both hold the same one the likeliest."""

    name: str
    tokens: int = 0
    kl: Figure = UNKNOWN
    perplexity_ratio: Figure = UNKNOWN
    same_top: Figure = UNKNOWN


@dataclass(frozen=True, slots=True)
class Measured:
    """kinds: as KINDS has them. window: in tokens; trained_steps: after so many of `distil.py`."""

    kinds: Sequence[Kind]
    window: int = 0
    text_sha256: str = NO_HASH
    text: str = TEXT
    trained_steps: int = 0


NOT_MEASURED = Measured([Kind(name) for name in KINDS])


@dataclass(frozen=True, slots=True)
class Making:
    """imatrix_sha256: "" where there was none; exponent: None where the source was rounded as it is."""

    source: str
    source_sha256: str
    recipe: str
    types_sha256: str
    imatrix_sha256: str
    command: str
    exponent: float | None = None
    versions: str = VERSIONS
    measured: Measured | None = None

    def keys(self) -> dict[str, Value]:
        found = self.measured or NOT_MEASURED
        figures = {name: [number for kind in found.kinds for number in _numbers(kind, name)] for name in FIGURES}
        return {
            "filbert.source.name": self.source,
            "filbert.source.sha256": self.source_sha256,
            "filbert.recipe.name": self.recipe,
            "filbert.recipe.sha256": self.types_sha256,
            "filbert.imatrix.sha256": self.imatrix_sha256,
            "filbert.command": self.command,
            "filbert.equalised.exponent": math.nan if self.exponent is None else self.exponent,
            "filbert.versions": self.versions,
            "filbert.trained.steps": found.trained_steps,
            "filbert.measured.text": found.text,
            "filbert.measured.sha256": found.text_sha256,
            "filbert.measured.window": found.window,
            "filbert.measured.kinds": [kind.name for kind in found.kinds],
            "filbert.measured.tokens": [kind.tokens for kind in found.kinds],
            **{f"filbert.measured.{name}": numbers for name, numbers in figures.items()},
        }

    def of_the_same(self, other: Making | None) -> bool:
        """Whether both tell of the same bytes, measured or not."""
        return other is not None and replace(self, measured=None) == replace(other, measured=None)

    def to_json(self) -> dict[str, Any]:
        measured = self.measured and {
            "text": self.measured.text,
            "text_sha256": self.measured.text_sha256,
            "window": self.measured.window,
            "trained_steps": self.measured.trained_steps,
            "kinds": {
                kind.name: {"tokens": kind.tokens} | {name: _numbers(kind, name) for name in FIGURES}
                for kind in self.measured.kinds
            },
        }
        return {
            "source": self.source,
            "source_sha256": self.source_sha256,
            "recipe": self.recipe,
            "types_sha256": self.types_sha256,
            "imatrix_sha256": self.imatrix_sha256,
            "command": self.command,
            "exponent": self.exponent,
            "versions": self.versions,
            "measured": measured,
        }


def measured_of(found: Sequence[Fidelity], text_sha256: str) -> Measured:
    """found: of all texts together, then of each, as KINDS has them."""
    kinds = [
        Kind(name, each.n, Figure(each.value, each.interval), each.perplexity_ratio, each.same_top)
        for name, each in zip(KINDS, found, strict=True)
    ]
    return Measured(kinds, found[0].window, text_sha256)


def making_of(header: Header) -> Making | None:
    """What the file says; None of one that we did not make, or that says it in another way."""
    try:
        told = {key.removeprefix("filbert."): header.load(key) for key in header.metadata if key.startswith("filbert.")}
        return Making(
            source=str(told["source.name"]),
            source_sha256=str(told["source.sha256"]),
            recipe=str(told["recipe.name"]),
            types_sha256=str(told["recipe.sha256"]),
            imatrix_sha256=str(told["imatrix.sha256"]),
            command=str(told["command"]),
            exponent=_exponent(told),
            versions=str(told["versions"]),
            measured=_measured(told),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _exponent(told: dict[str, Any]) -> float | None:
    found = float(told.get("equalised.exponent", math.nan))
    return None if math.isnan(found) else round(found, 6)


def _measured(told: dict[str, Any]) -> Measured | None:
    names, tokens = told["measured.kinds"], told["measured.tokens"]
    if not tokens[0]:
        return None
    kinds = [
        Kind(str(name), int(n), *(_figure(told[f"measured.{figure}"], i) for figure in FIGURES))
        for i, (name, n) in enumerate(zip(names, tokens, strict=True))
    ]
    sha256, text = str(told["measured.sha256"]), str(told["measured.text"])
    return Measured(kinds, int(told["measured.window"]), sha256, text, int(told.get("trained.steps", 0)))


def _numbers(kind: Kind, name: str) -> Sequence[float]:
    figure: Figure = getattr(kind, name)
    return [figure.value, *figure.interval]


def _figure(numbers: Sequence[float], i: int) -> Figure:
    value, low, high = map(float, numbers[3 * i : 3 * i + 3])
    return Figure(value, (low, high))
