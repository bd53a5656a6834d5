"""Measures of a model: how likely it finds an ending, how well it predicts a text."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filbert.core.errors import BadInput, EngineError
from filbert.core.jobs import Job
from filbert.core.machine import processor
from filbert.engine import capi_layout
from filbert.engine.bounds import text_bound
from filbert.engine.scorer import Scored, Scorer, Window
from filbert.engine.token_scorer import TokenScorer
from filbert.models.results import run_name
from filbert.report.measurement import TWO_SIDED_95, Measurement, Provenance, Result, named, now
from filbert.version import __version__

if TYPE_CHECKING:
    from filbert.engine.load_plan import LoadPlan

__all__ = ["Perplexity", "Scored", "need_window", "perplexity", "perplexity_job", "provenance", "score"]

LEAST_WINDOW = 16  # tokens
TOKENIZED_AT_ONCE = 256  # texts: a child hears of each question within its deadline


def score(scorer: Scorer, prompt: str, endings: Sequence[str]) -> list[Scored]:
    """Log-likelihood in nats of each ending after the prompt. Raises BadInput for an ending of no tokens,
    ContextOverflow."""
    found = encoded(scorer, [(prompt, ending) for ending in endings])
    return scorer.score(found[0][0], [ending for _, ending in found]) if found else []


def encoded(scorer: TokenScorer, requests: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Of each prompt and its ending, the tokens of either.

    As in lm-evaluation-harness (`_encode_pair`): trailing blanks of the prompt go to the ending; an ending's tokens are
    those of prompt and ending together after as many as the prompt has alone.
    """
    texts = [(prompt.rstrip(), prompt + ending) for prompt, ending in requests]
    asked = list(dict.fromkeys(text for pair in texts for text in pair))
    tokens: dict[str, list[int]] = {}
    for first in range(0, len(asked), TOKENIZED_AT_ONCE):
        part = asked[first : first + TOKENIZED_AT_ONCE]
        tokens |= zip(part, scorer.tokenize(part), strict=True)
    start = scorer.start
    return [([*start, *tokens[alone]] or [scorer.first], tokens[whole][len(tokens[alone]) :]) for alone, whole in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity(Measurement):
    """By llama.cpp's convention. n: scored tokens; standard_error: as llama-perplexity prints it. It counts tokens
    as independent, so the interval is somewhat too narrow."""

    standard_error: float
    window: int
    windows: tuple[Window, ...]

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"perplexity {self.value:.4f} ± {self.standard_error:.4f} (95 %: {low:.2f} to {high:.2f}) "
            f"over {self.n} tokens of {len(self.windows)} windows of {self.window}{self.invalid_note}\n"
            f"on {self.against}, by {self.made_by}"
        )

    def to_result(self, about: str) -> Result:
        """about: the file of the text."""
        return Result(
            kind="perplexity",
            about=about,
            settings=f"window {self.window}",
            run=run_name("perplexity", self.against, self.window, self.made_by.adapters),
            time=now(),
            measurements=(named(self, "perplexity"),),
        )


def perplexity(scorer: Scorer, text: str, window: int = 512) -> Perplexity:
    """`perplexity_job` without its progress."""
    job = perplexity_job(scorer, text, window)
    while True:
        try:
            next(job)
        except StopIteration as end:
            found: Perplexity = end.value
            return found


def perplexity_job(scorer: Scorer, text: str, window: int = 512, file: str = "FILE") -> Job[Perplexity]:
    """Perplexity over windows of `window` tokens, the second half of each scored (llama.cpp, tools/perplexity). Raises
    BadInput for a text of less than two windows, ContextOverflow, EngineError when no token gave a number. file: where
    the text is from, for who measures it again."""
    need_window(text, window)
    windows = yield from scorer.perplexity(text, window)
    n, nll, nll2 = (math.fsum(getattr(part, name) for part in windows) for name in ("n", "nll", "nll2"))
    n_invalid = sum(part.n_invalid for part in windows)
    if n < 2:
        raise EngineError(
            "The model gave no numbers.",
            why=f"All {n_invalid} scored tokens are NaN: its file is damaged.",
            do="Pull it again.",
        )
    data = text.encode(errors="replace")
    mean = nll / n
    error = math.sqrt(max(0.0, nll2 / n - mean * mean) / (n - 1))  # of the mean, in nats
    return Perplexity(
        value=math.exp(mean),
        interval=(math.exp(mean - TWO_SIDED_95 * error), math.exp(mean + TWO_SIDED_95 * error)),
        against=f"a text of {len(data)} bytes (sha256 {hashlib.sha256(data).hexdigest()[:12]})",
        n=int(n),
        n_invalid=n_invalid,
        made_by=provenance(scorer, _command(scorer, window, file)),
        standard_error=error * math.exp(mean),
        window=window,
        windows=tuple(windows),
    )


def need_window(text: str, window: int) -> None:
    """Raises BadInput for what is no text, or no number of tokens to cut one into."""
    text_bound(text)
    if not isinstance(window, int):
        raise BadInput(f"A window is a number of tokens, not {type(window).__name__}.", do="Write window=512.")
    if window < LEAST_WINDOW:
        raise BadInput(f"A window of {window} tokens is too short.", do=f"Take {LEAST_WINDOW} or more.")


def _command(scorer: Scorer, window: int, file: str) -> str:
    adapters = [part for adapter in scorer.adapters for part in ("--adapters", adapter)]
    words = ["--model", scorer.stored.name, *adapters, "--window", str(window), "--text", file]
    return shlex.join(["filbert", "perplexity", *words])


def provenance(source: Scorer | LoadPlan, command: str) -> Provenance:
    """Of a number that a model gave, loaded so."""
    return Provenance(
        model=source.stored.name,
        model_sha256=source.stored.sha256,
        versions=f"filbert {__version__}, xllamacpp {capi_layout.VERSION}",
        machine=processor(),
        threads=source.threads,
        command=command,
        adapters=tuple(Path(file).name for file in source.adapters),
    )
