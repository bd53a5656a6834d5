"""Two models on the same pairs of prompt and answer: whose answers cost less."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filbert.core.errors import EngineError
from filbert.evaluate.pairs import AnswerPerplexity, ScoredPair, clipped
from filbert.report.statistics import (
    Distributions,
    Interval,
    Numbers,
    RankTest,
    difference,
    distributions,
    mann_whitney,
    paired_bootstrap,
    ratio,
)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same answers: those that both gave a number for."""

    first: AnswerPerplexity
    second: AnswerPerplexity

    @cached_property
    def _both(self) -> list[tuple[ScoredPair, ScoredPair]]:
        pairs = zip(self.first.pairs, self.second.pairs, strict=True)
        both = [(one, other) for one, other in pairs if not one.why and not other.why]
        if not both:
            raise EngineError("The models have no answer in common that gave both a number.", do="Look at the pairs.")
        return both

    @property
    def n(self) -> int:
        return len(self._both)

    @cached_property
    def values(self) -> tuple[Numbers, Numbers]:
        return clipped([one for one, _ in self._both]), clipped([other for _, other in self._both])

    @cached_property
    def distributions(self) -> Distributions:
        return distributions(*self.values)

    @cached_property
    def ranks(self) -> RankTest:
        return mann_whitney(*self.values)

    @cached_property
    def difference(self) -> tuple[float, Interval]:
        """Of the means: the second's beyond the first's."""
        return float(difference(*self.values)), paired_bootstrap(difference, *self.values)

    @cached_property
    def ratio(self) -> tuple[float, Interval]:
        return float(ratio(*self.values)), paired_bootstrap(ratio, *self.values)

    @property
    def names(self) -> tuple[str, str]:
        """Of the models; of a file that was named by its path, the file's."""
        one, other = (_short(each.made_by.model) for each in (self.first, self.second))
        return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")

    @property
    def lower(self) -> str:
        """The model that is stochastically lower, or ""."""
        found = self.distributions
        return self.names[0] if found.first_is_lower else self.names[1] if found.second_is_lower else ""

    @property
    def bits_per_byte(self) -> tuple[float, float]:
        """Of all answers together, which no vocabulary changes."""
        n_bytes = sum(one.size_bytes for one, _ in self._both)
        nats = [math.fsum(pair[side].nll for pair in self._both) for side in (0, 1)]
        return nats[0] / n_bytes / math.log(2), nats[1] / n_bytes / math.log(2)

    @property
    def same_tokens(self) -> bool:
        return all(one.tokens == other.tokens for one, other in self._both)

    def __str__(self) -> str:
        one, other = self.names
        by, (low, high) = self.difference
        times, (least, most) = self.ratio
        ranks = self.ranks
        return "\n".join(
            [
                f"{one} and {other} on the {self.n} answers that gave both a number",
                f"mean: {_signed(by)} of {other} beyond {one} (95 %: {_signed(low)} to {_signed(high)}), "
                f"{times:.3f} times as much ({least:.3f} to {most:.3f}), by a paired bootstrap",
                f"Mann-Whitney: p {ranks.p:.2g}; an answer of {one} costs more than one of {other} in "
                f"{ranks.superiority:.1%} of pairs (95 %: {ranks.interval[0]:.1%} to {ranks.interval[1]:.1%})",
                self._lower_in_words(),
                *self._about_tokens(),
            ]
        )

    def _lower_in_words(self) -> str:
        one, other = self.names
        found = self.distributions
        if self.lower:
            higher = other if self.lower == one else one
            gap = max(found.first_above, found.second_above)
            return (
                f"stochastically lower: {self.lower}. Wherever one draws the line, at least as many of its answers "
                f"are below it as of {higher}'s, and at one perplexity {gap:.1%} more."
            )
        if found.first_above == found.second_above == 0:
            return "stochastically lower: neither. The distributions are the same."
        return (
            "stochastically lower: neither. The curves cross: "
            f"below one perplexity are {found.first_above:.1%} more of {one}'s answers, "
            f"below another {found.second_above:.1%} more of {other}'s."
        )

    def _about_tokens(self) -> Iterator[str]:
        if not self.same_tokens:
            one, other = self.bits_per_byte
            yield (
                "The models cut answers into different tokens, so that their perplexities are not of one unit: "
                f"compare bits a byte, {one:.4f} and {other:.4f}."
            )

    def to_json(self) -> dict[str, Any]:
        by, times, found, ranks = self.difference, self.ratio, self.distributions, self.ranks
        return {
            "models": [self.first.to_json(), self.second.to_json()],
            "comparison": {
                "n": self.n,
                "difference_of_means": {"value": by[0], "interval": by[1]},
                "ratio_of_means": {"value": times[0], "interval": times[1]},
                "mann_whitney": {
                    "u": ranks.u,
                    "p": ranks.p,
                    "superiority": ranks.superiority,
                    "interval": ranks.interval,
                },
                "stochastically_lower": self.lower or None,
                "largest_distances": [found.first_above, found.second_above],
                "same_tokens": self.same_tokens,
                "bits_per_byte": self.bits_per_byte,
            },
        }


def _short(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def _signed(number: float) -> str:
    return f"{number:+.3f}"
