"""What compression cost: how far a model's predictions are from those of the model it was made from.

By the definitions of `llama-perplexity --kl-divergence` (llama.cpp, tools/perplexity). Errors are by a bootstrap over
windows, since the tokens of one window have their text in common.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from filbert.core.errors import BadInput, EngineError
from filbert.core.jobs import Job
from filbert.engine.model import Model
from filbert.engine.score_and_perplexity import need_window, provenance
from filbert.engine.scorer import ComparedWindow
from filbert.engine.side_by_side import SideBySide
from filbert.models.header import Header
from filbert.models.results import run_name
from filbert.report.measurement import Measurement, Named, Provenance, Result, named, now
from filbert.report.statistics import Interval, Numbers, bootstrap, paired_bootstrap, ratio

FEW = 30  # windows under which a bootstrap's interval is too narrow
RESAMPLES_OF_TOKENS = 1000  # each sorts all tokens anew
NATS = "nats a token"
TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True, slots=True)
class Figure:
    """interval: 95 %."""

    value: float
    interval: Interval

    def told(self, form: str) -> str:
        low, high = self.interval
        return f"{self.value:{form}} (95 %: {low:{form}} to {high:{form}})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity(Measurement):
    """value: the mean KL divergence in nats a token. base: the model that it is compared with. largest: the greatest KL
    divergence; a bootstrap cannot tell its error. same_top: the share of tokens at which both hold the same one the
    likeliest. perplexity_ratio: the compressed model's to the base's."""

    base: str
    base_sha256: str
    median: Figure
    percentile_99: Figure
    largest: float
    same_top: Figure
    perplexity: Figure
    base_perplexity: Figure
    perplexity_ratio: Figure
    window: int
    n_windows: int

    def __str__(self) -> str:
        return "\n".join(
            [
                f"KL divergence, nats a token: mean {Figure(self.value, self.interval).told('.6f')}",
                f"  median {self.median.told('.6f')}",
                f"  99 % {self.percentile_99.told('.6f')}",
                f"  largest {self.largest:.6f}",
                f"same likeliest token: {self.same_top.told('.2%')}",
                f"perplexity: {self.perplexity.told('.4f')}",
                f"  of the base {self.base_perplexity.told('.4f')}",
                f"  ratio {self.perplexity_ratio.told('.5f')}",
                f"over {self.n} tokens of {self.n_windows} windows of {self.window}{self.invalid_note}",
                *self._few(),
                f"against {self.against}, by {self.made_by}",
            ]
        )

    def _few(self) -> Iterator[str]:
        if self.n_windows < FEW:
            yield f"Of less than {FEW} windows the intervals are somewhat too narrow: a longer text tells more."

    def to_json(self) -> dict[str, Any]:
        made_by = asdict(self.made_by)
        return {
            "model": made_by.pop("model"),
            "model_sha256": made_by.pop("model_sha256"),
            "base": self.base,
            "base_sha256": self.base_sha256,
            "kl_mean": asdict(Figure(self.value, self.interval)),
            "kl_median": asdict(self.median),
            "kl_99_percent": asdict(self.percentile_99),
            "kl_largest": self.largest,
            "same_top": asdict(self.same_top),
            "perplexity": asdict(self.perplexity),
            "base_perplexity": asdict(self.base_perplexity),
            "perplexity_ratio": asdict(self.perplexity_ratio),
            "n": self.n,
            "n_invalid": self.n_invalid,
            "window": self.window,
            "n_windows": self.n_windows,
            "against": self.against,
            **made_by,
        }

    def to_result(self, about: str) -> Result:
        """about: the file of the text."""

        def of(figure: Figure, name: str, unit: str = "") -> Named:
            return replace(named(self, name, unit), value=figure.value, interval=figure.interval)

        settings = f"against {self.base}, window {self.window}"
        return Result(
            kind="fidelity",
            about=about,
            settings=settings,
            run=run_name("fidelity", self.base_sha256, self.against, self.window, self.made_by.adapters),
            time=now(),
            measurements=(
                named(self, "mean KL divergence", NATS),
                of(self.same_top, "same likeliest token", "share"),
                of(self.perplexity_ratio, "ratio of perplexities"),
                of(self.median, "median KL divergence", NATS),
                of(self.percentile_99, "99 % KL divergence", NATS),
                of(self.perplexity, "perplexity"),
                of(self.base_perplexity, "perplexity of the base"),
            ),
        )


def fidelity_job(
    model: Model, base: Model, text: str, window: int, command: str, *, every_token: bool = False
) -> Job[Fidelity]:
    """The model beside its base on windows of the text, the second half of each scored, or all of it. command: what
    makes it again. Raises BadInput for models of different vocabularies, for more than fits into memory, and for a text
    of less than two windows; EngineError when no token gave a number."""
    _need_comparable(model, base, [text], window)
    with SideBySide(model.children.plan, base.children.plan, window) as pair:
        windows = yield from pair.scorer.fidelity(text, window, every_token=every_token)
        made_by = provenance(pair.scorer, command)
    return _of_windows(windows, base, text, window, made_by, "every token of " if every_token else "")


def fidelities_job(
    model: Model, base: Model, texts: Sequence[tuple[str, bool]], window: int, most: int, command: str
) -> Job[list[Fidelity]]:
    """As `fidelity_job`, of every token of the first `most` windows of each text: on all of them together, then on
    each. texts: with whether special tokens are read as such."""
    _need_comparable(model, base, [text for text, _ in texts], window)
    found = []
    with SideBySide(model.children.plan, base.children.plan, window) as pair:
        for text, special in texts:
            windows = yield from pair.scorer.fidelity(text, window, every_token=True, special=special, most=most)
            found.append((windows, text))
        made_by = provenance(pair.scorer, command)
    together = [each for windows, _ in found for each in windows], "".join(text for _, text in found)
    part = f"every token of {most} windows of "
    return [_of_windows(windows, base, text, window, made_by, part) for windows, text in (together, *found)]


def _need_comparable(model: Model, base: Model, texts: Sequence[str], window: int) -> None:
    model.need("text")
    base.need("text")
    for text in texts:
        need_window(text, window)
    need_same_vocabulary(model, base)


def _of_windows(
    windows: Sequence[ComparedWindow], base: Model, text: str, window: int, made_by: Provenance, part: str
) -> Fidelity:
    """part: of the text that is scored, in words."""
    data = text.encode(errors="replace")
    scored = [_valid(each) for each in windows]
    n_invalid = sum(len(each.kl) for each in windows) - sum(len(each) for each in scored)
    against = f"{base.name} (sha256 {base.stored.sha256[:12]}) on {part}a text of {len(data)} bytes"
    return Fidelity(
        **_figures(scored, n_invalid),
        against=f"{against} (sha256 {hashlib.sha256(data).hexdigest()[:12]})",
        n_invalid=n_invalid,
        made_by=made_by,
        base=base.name,
        base_sha256=base.stored.sha256,
        window=window,
        n_windows=len(windows),
    )


def again(name: str, base: str, window: int, file: str, *, every_token: bool = False) -> str:
    """The command that measures it again. file: where the text is from."""
    flags = ["--base", base, "--window", str(window), "--text", file, *(["--every-token"] if every_token else [])]
    return shlex.join(["filbert", "fidelity", name, *flags])


def need_same_vocabulary(model: Model, base: Model) -> None:
    """Raises BadInput where a token of the one is not that of the other: their logits are not of the same things."""
    one, other = _tokens(model.header), _tokens(base.header)
    if one == other:
        return
    if len(one) != len(other):
        why = f"The first has {len(one)} tokens, the second {len(other)}."
    else:
        first = next(i for i, (token, its) in enumerate(zip(one, other, strict=True)) if token != its)
        why = f"Token {first} is {one[first]!r:.60} in the first and {other[first]!r:.60} in the second."
    raise BadInput(
        f"{model.name} and {base.name} have different vocabularies and cannot be compared token by token.",
        why=why,
        do="Name with --base the model that the other was made from; `filbert perplexity --pairs` compares any two.",
    )


def _tokens(header: Header) -> Sequence[Any]:
    found = header.load(TOKENS) if TOKENS in header.metadata else ()
    return found if isinstance(found, tuple) else ()


def _valid(window: ComparedWindow) -> Numbers:
    """Rows of kl, nll, base_nll, same: a token that lacks a number in one is left out of all."""
    rows = np.array([window.kl, window.nll, window.base_nll, window.same], np.float64).T
    return np.asarray(rows[np.isfinite(rows).all(axis=1)])


def _figures(windows: Sequence[Numbers], n_invalid: int) -> dict[str, Any]:
    tokens = np.concatenate(windows)
    if not len(tokens):
        raise EngineError(
            "The models gave no numbers.",
            why=f"All {n_invalid} scored tokens are NaN in one or the other: a file is damaged.",
            do="Pull both again.",
        )
    windows = [each for each in windows if len(each)]
    n = [len(each) for each in windows]
    kl, nll, base_nll, same = np.array([each.sum(axis=0) for each in windows]).T
    values, kl_values = tokens.mean(axis=0), [each[:, 0] for each in windows]
    return {
        "value": float(values[0]),
        "interval": paired_bootstrap(ratio, n, kl),
        "n": len(tokens),
        "median": _quantile(kl_values, 50),
        "percentile_99": _quantile(kl_values, 99),
        "largest": float(tokens[:, 0].max()),
        "same_top": Figure(float(values[3]), paired_bootstrap(ratio, n, same)),
        "perplexity": _exponential(ratio, n, nll),
        "base_perplexity": _exponential(ratio, n, base_nll),
        "perplexity_ratio": _exponential(_difference_a_token, n, nll, base_nll),
    }


def _exponential(statistic: Callable[..., Numbers], *samples: Sequence[float] | Numbers) -> Figure:
    low, high = paired_bootstrap(statistic, *samples)
    value = float(statistic(*(np.asarray(sample, np.float64) for sample in samples)))
    return Figure(math.exp(value), (math.exp(low), math.exp(high)))


def _difference_a_token(n: Numbers, nll: Numbers, base_nll: Numbers) -> Numbers:
    return ratio(n, nll) - ratio(n, base_nll)


def _quantile(windows: Sequence[Numbers], percent: float) -> Figure:
    """Of all tokens; the windows are drawn, not their tokens."""

    def statistic(drawn: Numbers) -> Numbers:
        draws = ([windows[i] for i in row] for row in drawn.astype(np.intp))
        return np.array([np.percentile(np.concatenate(draw), percent) for draw in draws])

    value = float(np.percentile(np.concatenate(windows), percent))
    return Figure(value, bootstrap(np.arange(len(windows)), statistic, resamples=RESAMPLES_OF_TOKENS))
