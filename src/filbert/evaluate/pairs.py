"""Pairs of a prompt and its answer: what the answer costs a model that was shown the prompt.

The perplexity of an answer is exp of the mean nats a token, of its own tokens only (Anand et al. 2023 call it
ground-truth perplexity). A few answers explode, and would be all that a mean tells: each counts as 100 at most, as in
the paper. What gave no number is counted beside, and never scored.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from filbert.core.errors import EngineError
from filbert.core.jobs import Job, Progress
from filbert.core.pairs import SHOWN, Pair
from filbert.engine.chat_prompt import chat_prompt
from filbert.engine.forest import Item, packed
from filbert.engine.model import Model
from filbert.engine.score_and_perplexity import provenance
from filbert.engine.scorer import Scorer
from filbert.models.results import run_name
from filbert.report.measurement import Measurement, Result, named, now
from filbert.report.statistics import Interval, Numbers, bootstrap, mean, median, standard_error

MOST = 100.0  # that an answer's perplexity counts as
AT_ONCE = 64  # pairs whose prompts are prepared together

Shown = Literal["raw", "chat"]
Why = Literal["", "empty", "too long", "NaN"]


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """nll: nats of the whole answer; why: it has none."""

    line: int
    tokens: int = 0
    size_bytes: int = 0  # of the answer in UTF-8
    nll: float = math.nan
    why: Why = ""

    @property
    def perplexity(self) -> float:
        """As it is, not clipped."""
        return math.exp(min(self.nll / self.tokens, 700)) if not self.why else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPerplexity(Measurement):
    """value: the mean over the answers of their clipped perplexities; n_invalid: those that gave none."""

    standard_error: float
    median: float
    median_interval: Interval
    shown: Shown
    n_vocab: int
    pairs: tuple[ScoredPair, ...]

    @property
    def scored(self) -> list[ScoredPair]:
        return [each for each in self.pairs if not each.why]

    @property
    def n_clipped(self) -> int:
        return sum(each.perplexity > MOST for each in self.scored)

    def __str__(self) -> str:
        (low, high), (low_median, high_median) = self.interval, self.median_interval
        return "\n".join(
            [
                f"perplexity of answers: mean {self.value:.3f} ± {self.standard_error:.3f} "
                f"(95 %: {low:.2f} to {high:.2f}), median {self.median:.3f} ({low_median:.2f} to {high_median:.2f})",
                f"over {self.n} answers of {sum(each.tokens for each in self.scored)} tokens; "
                f"{self.n_clipped} ({self.n_clipped / self.n:.1%}) are above {MOST:.0f} and count as {MOST:.0f}",
                *_left_out(self.pairs),
                f"on {self.against}, {'by the chat template' if self.shown == 'chat' else 'raw'}, by {self.made_by}",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.made_by.model,
            "model_sha256": self.made_by.model_sha256,
            "mean": self.value,
            "mean_interval": self.interval,
            "standard_error": None if math.isnan(self.standard_error) else self.standard_error,
            "median": self.median,
            "median_interval": self.median_interval,
            "n": self.n,
            "n_clipped": self.n_clipped,
            "n_invalid": self.n_invalid,
            "clipped_at": MOST,
            "shown": self.shown,
            "against": self.against,
            "versions": self.made_by.versions,
            "machine": self.made_by.machine,
            "threads": self.made_by.threads,
            "command": self.made_by.command,
            "items": [dict(zip(COLUMNS, row(each), strict=True)) for each in self.pairs],
        }

    def to_result(self, about: str) -> Result:
        """about: the file of the pairs."""
        middle = replace(named(self, "median"), value=self.median, interval=self.median_interval)
        settings = "as in a chat" if self.shown == "chat" else "raw"
        return Result(
            kind="pairs",
            about=about,
            settings=settings,
            run=run_name("pairs", self.against, settings, self.made_by.adapters),
            time=now(),
            measurements=(named(self, f"mean, {MOST:.0f} at most"), middle),
        )


COLUMNS = ("line", "tokens", "bytes", "nll", "perplexity", "clipped", "why")


def row(pair: ScoredPair) -> tuple[int | float | str | None, ...]:
    """What is written of an answer, by COLUMNS; None is no number."""
    if pair.why:
        return pair.line, pair.tokens, pair.size_bytes, None, None, None, pair.why
    found = pair.perplexity
    return pair.line, pair.tokens, pair.size_bytes, pair.nll, found, min(found, MOST), ""


def _left_out(pairs: Sequence[ScoredPair]) -> Iterator[str]:
    words: dict[Why, str] = {"empty": "empty", "too long": "longer than the context", "NaN": "not a number (NaN)"}
    for why, told in words.items():
        if lines := [str(each.line) for each in pairs if each.why == why]:
            more = ", …" if len(lines) > SHOWN else ""
            yield f"left out, {told}: {len(lines)} (line {', '.join(lines[:SHOWN])}{more})"


def pairs_job(model: Model, pairs: Sequence[Pair], shown: Shown, command: str) -> Job[AnswerPerplexity]:
    """The perplexity of each answer. shown: how the model sees a prompt, by its chat template or raw, which is the
    prompt, a blank line and the answer; command: what makes it again. Raises EngineError when none gave a number."""
    model.need("text")
    found: dict[int, ScoredPair] = {}
    for start in range(0, len(pairs), AT_ONCE):
        for place, scored in _scored(model, pairs[start : start + AT_ONCE], shown):
            found[start + place] = scored
            yield Progress("answers", len(found), len(pairs), "answers")
    return _measured(model, pairs, [found[place] for place in range(len(pairs))], shown, command)


def _scored(model: Model, pairs: Sequence[Pair], shown: Shown) -> Iterator[tuple[int, ScoredPair]]:
    """Each with its place among the pairs; those that cannot be scored come first."""
    scorer = model.scorer
    full = [place for place, pair in enumerate(pairs) if pair.response.strip()]
    prompts = [
        chat_prompt(model, pairs[place].messages) if shown == "chat" else f"{pairs[place].text}\n\n" for place in full
    ]
    cut = dict(zip(full, _cut(scorer, [pairs[place] for place in full], prompts), strict=True))
    asked: list[tuple[int, ScoredPair, Item]] = []
    for place, pair in enumerate(pairs):
        prefix, answer = cut.get(place, ([], []))
        unscored = ScoredPair(pair.line, len(answer), len(pair.response.encode(errors="replace")))
        if not answer:
            yield place, ScoredPair(pair.line, why="empty")
        elif len(prefix) + len(answer) - 1 > scorer.context:  # its last token is not decoded
            yield place, replace(unscored, why="too long")
        else:
            asked.append((place, unscored, Item(prefix, [answer])))
    for batch in packed([item for _, _, item in asked], scorer.context):
        scores = scorer.score_items([asked[i][2] for i in batch])
        for i, (score,) in zip(batch, scores, strict=True):
            place, unscored, _ = asked[i]
            nats = score.loglikelihood
            yield place, replace(unscored, why="NaN") if nats is None else replace(unscored, nll=-nats)


def _cut(scorer: Scorer, pairs: Sequence[Pair], prompts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """The tokens of prompt and answer together, cut where the answer's begin."""
    asked = zip(prompts, pairs, strict=True)
    tokens = scorer.tokenize([text for p, pair in asked for text in (p, p + pair.response, pair.response)])
    found = []
    for before, whole, answer in zip(tokens[::3], tokens[1::3], tokens[2::3], strict=True):
        cut = _boundary(before, whole, answer)
        start = list(scorer.start)
        if whole[: len(start)] == start:
            start = []  # the chat template wrote it
        found.append((start + whole[:cut] or [scorer.first], whole[cut:]))
    return found


def _boundary(before: Sequence[int], whole: Sequence[int], answer: Sequence[int]) -> int:
    """Where the answer's tokens begin in those of the whole: they are as if it stood alone, or else begin where the
    whole parts from the prompt, so that a token which holds the prompt's end and the answer's beginning is scored."""
    if list(whole[len(whole) - len(answer) :]) == list(answer):
        return len(whole) - len(answer)
    same = (i for i, (one, other) in enumerate(zip(before, whole, strict=False)) if one != other)
    return next(same, min(len(before), len(whole)))


def _measured(
    model: Model, pairs: Sequence[Pair], scored: Sequence[ScoredPair], shown: Shown, command: str
) -> AnswerPerplexity:
    values = clipped([each for each in scored if not each.why])
    if not len(values):
        raise EngineError(
            "No answer gave a number.",
            why=f"{'; '.join(_left_out(scored))}.",
            do="Look at the file of pairs; if the answers are NaN, pull the model again.",
        )
    said = json.dumps([[[m.role, m.text] for m in pair.messages] + [pair.response] for pair in pairs]).encode()
    return AnswerPerplexity(
        value=float(values.mean()),
        interval=bootstrap(values, mean),
        against=f"{len(pairs)} pairs (sha256 {hashlib.sha256(said).hexdigest()[:12]})",
        n=len(values),
        n_invalid=len(pairs) - len(values),
        made_by=provenance(model.scorer, command),
        standard_error=standard_error(values),
        median=float(np.median(values)),
        median_interval=bootstrap(values, median),
        shown=shown,
        n_vocab=int(model.scorer.about["n_vocab"]),
        pairs=tuple(scored),
    )


def clipped(pairs: Sequence[ScoredPair]) -> Numbers:
    return np.array([min(each.perplexity, MOST) for each in pairs])
