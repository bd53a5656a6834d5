"""The scorer: a model behind the engine's C interface. Takes text or tokens, gives back numbers; logits never leave it.

Told once what to load; then one answer a question, {"answer": …} or {"error": …}. Before it comes {"decoded": …} for
each part of a decode, which shows that it lives, and from a perplexity or a fidelity {"window": …} for each window.
For a fidelity it holds two models, the one and its base.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filbert.core.errors import BadInput, ContextOverflow, FilbertError
from filbert.engine.answering import Say, told
from filbert.engine.capi import Context, Rows, Weights, open_engine
from filbert.engine.forest import Forest, Item, Tokens
from filbert.engine.lifeline import bound_memory, heard, open_lifeline
from filbert.engine.likelihood import Flags, Numbers, SideBySide, likeliest, pick, predicting, side_by_side
from filbert.engine.scoring import BRANCHES, SEQUENCES

Found = tuple[float, bool]  # log-likelihood of an ending, and whether each of its tokens was the likeliest
Indices = NDArray[np.intp]
SMALLEST_CONTEXT = 512


class Scorer:
    def __init__(self, config: dict[str, Any], say: Say) -> None:
        engine = open_engine()
        self._weights = Weights(engine, config["path"], config["adapters"])
        self._base = Weights(engine, **config["base"]) if "base" in config else None
        self._start = start_of(self._weights)
        self._limit = config["context"] or self._weights.n_trained
        self._threads = config["threads"]
        self._context: Context | None = None
        self._n_decoded = 0
        self._say = say

    def about(self) -> dict[str, Any]:
        weights = self._weights
        return {
            "context": self._limit,
            "n_vocab": weights.n_vocab,
            "start": self._start,
            "first": weights.bos if weights.bos >= 0 else weights.eos,
        }

    def as_windows(self, texts: list[tuple[str, bool]], window: int) -> list[list[list[int]]]:
        return [read_as_windows(self._weights, [text], window) for text in texts]

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [self._weights.tokenize(text, special=True) for text in texts]

    def pieces(self, tokens: list[int]) -> list[str]:
        """What each stands for, its bytes as characters."""
        return [self._weights.piece(token).decode("latin-1") for token in tokens]

    def score(self, items: list[tuple[list[int], list[list[int]]]]) -> dict[str, Any]:
        """What each ending of each item gets, item by item. They are decoded together where the cache holds them all,
        else one after the other."""
        asked = self._fit(items)
        before = self._n_decoded
        found: Sequence[Found]
        if forest := self._forest(asked):
            found = list(self._together(forest))
        else:
            found = [each for item in asked for each in self._branching(item)]
        return {
            "loglikelihoods": [finite(value) for value, _ in found],
            "greedy": [bool(likeliest) for _, likeliest in found],
            "decoded": self._n_decoded - before,
        }

    def predict(self, items: list[tuple[list[int], list[list[int]]]], n: int) -> dict[str, Any]:
        """Of each token of each ending its log-likelihood, and the n likeliest at its place with theirs."""
        asked = self._fit(items)
        before, n = self._n_decoded, min(n, self._weights.n_vocab)
        together = self._forest(asked)
        forests = [together] if together else [Forest([item]) for item in asked]
        found = [each for forest in forests for each in self._each(forest, n)]
        return {"predictions": found, "decoded": self._n_decoded - before}

    def _fit(self, items: list[tuple[list[int], list[list[int]]]]) -> list[Item]:
        """Raises ContextOverflow where one does not."""
        asked = [Item(*item) for item in items]
        for item in asked:
            self._need(len(item.prefix) + max(map(len, item.endings)) - 1)  # the last token is not decoded
        return asked

    def _forest(self, items: list[Item]) -> Forest | None:
        """None where they cannot be decoded together."""
        forest = None if self._weights.has_states else Forest(items)
        return forest if forest and len(forest) <= self._limit and len(forest.leaves()) <= SEQUENCES else None

    def _together(self, forest: Forest) -> Iterable[Found]:
        targets, endings = (np.array([getattr(pick, of) for pick in forest.picks]) for of in ("token", "ending"))
        values, greedy = np.zeros(endings[-1] + 1), np.ones(endings[-1] + 1, np.bool_)
        for here, rows, logits in self._picked(forest):
            found, are_likeliest = pick(logits, rows, targets[here])
            np.add.at(values, endings[here], found)
            np.logical_and.at(greedy, endings[here], are_likeliest)
        return zip(values, greedy, strict=True)

    def _each(self, forest: Forest, n: int) -> Iterable[tuple[float | None, list[tuple[int, float | None]]]]:
        targets = np.array([pick.token for pick in forest.picks])
        values = np.zeros(len(targets))
        tokens, tops = np.zeros((len(targets), n), np.intp), np.zeros((len(targets), n))
        for here, rows, logits in self._picked(forest):
            values[here], _ = pick(logits, rows, targets[here])
            ids, found = likeliest(logits, n)
            tokens[here], tops[here] = ids[rows], found[rows]
        for value, ids, found in zip(values, tokens, tops, strict=True):
            yield finite(value), [(int(token), finite(top)) for token, top in zip(ids, found, strict=True)]

    def _picked(self, forest: Forest) -> Iterator[tuple[Indices, Indices, NDArray[np.float32]]]:
        """Decode; which of the forest's picks a part gave, the row of each among its logits, and those."""
        context = self._fitting(len(forest))
        context.clear()
        nodes = np.array([pick.node for pick in forest.picks])
        rows = of_forest(forest, np.isin(np.arange(len(forest)), nodes))
        row_of = (np.cumsum(rows.wanted) - 1)[nodes]
        for part, logits in context.decode(rows):
            here = np.flatnonzero((row_of >= part.start) & (row_of < part.stop))
            yield here, row_of[here] - part.start, logits

    def _branching(self, item: Item) -> Iterable[Found]:
        """The prefix is decoded once, in sequence 0; endings branch off from it, many in one batch."""
        prefix, endings = item.prefix, item.endings
        context = self._fitting(len(prefix) + sum(map(len, endings)))
        values, greedy = self._first_tokens(context, prefix, [ending[0] for ending in endings])
        for wave in waves([len(ending) - 1 for ending in endings], context.n_ctx - len(prefix)):
            self._later_tokens(context, len(prefix), [(i, endings[i]) for i in wave], values, greedy)
        return zip(values, greedy, strict=True)

    def _first_tokens(self, context: Context, prefix: Tokens, firsts: Tokens) -> tuple[Numbers, Flags]:
        """The last token of the prefix predicts the first of every ending."""
        context.clear()
        ((_, logits),) = context.decode(sequence(prefix, wanted_from=len(prefix) - 1))
        return pick(logits, np.zeros(len(firsts), np.intp), np.array(firsts, np.int32))

    def _later_tokens(
        self, context: Context, start: int, wave: list[tuple[int, Tokens]], values: Numbers, greedy: Flags
    ) -> None:
        """Add to `values` and `greedy`, in place, what the tokens after the first of each ending in the wave give."""
        for branch in range(1, len(wave) + 1):
            context.branch(branch)
        owners = np.concatenate([np.full(len(ending) - 1, i) for i, ending in wave])
        targets = np.concatenate([np.array(ending[1:], np.int32) for _, ending in wave])
        rows = [sequence(ending[:-1], start=start, number=branch) for branch, (_, ending) in enumerate(wave, 1)]
        for part, logits in context.decode(joined(rows)):
            found, are_likeliest = pick(logits, np.arange(len(logits)), targets[part])
            np.add.at(values, owners[part], found)
            np.logical_and.at(greedy, owners[part], are_likeliest)
        for branch in range(1, len(wave) + 1):
            context.prune(branch)

    def perplexity(self, text: str, window: int) -> dict[str, Any]:
        """llama.cpp's convention (tools/perplexity): windows that do not overlap, the second half of each scored, the
        first token of each replaced by BOS where the vocabulary adds one; the rest of the text is left out."""
        self._need(window)
        found = windows(self._weights, text, window)
        context = self._fitting(window)
        for tokens in found:
            self._say({"window": self._window(context, tokens), "of": len(found)})
        return {"n_windows": len(found)}

    def fidelity(self, text: str, window: int, every_token: bool, special: bool, most: int | None) -> dict[str, Any]:
        """The windows of `perplexity`, cut by the base's tokenizer as llama-perplexity has it, by both models in
        lockstep: their logits are compared where the engine has them."""
        assert self._base
        self._need(window)
        found = windows(self._base, text, window, special=special)[:most]
        context = self._fitting(window)
        base = Context(self._base, context.n_ctx, self._threads, self._lives)
        for tokens in found:
            self._say(
                {"window": compared(context, base, tokens, 0 if every_token else len(tokens) // 2), "of": len(found)}
            )
        return {"n_windows": len(found)}

    def compare(self, sequences: list[list[int]], logits: str, width: int) -> dict[str, Any]:
        """What `fidelity` gives of a window, of each sequence from its first token on, against logits that another
        program made: a file of float32, `width` of them a token, one sequence after the other. Where one of the two
        has a longer vocabulary, what both have counts."""
        base = np.memmap(logits, np.float32, "r").reshape(-1, width)
        width = min(width, self._weights.n_vocab)
        for tokens in sequences:
            self._need(len(tokens))
            context = self._fitting(len(tokens))
            context.clear()
            targets = np.array([*tokens[1:], 0], np.int32)
            found = [
                side_by_side(ours[:, :width], base[part, :width], targets[part])
                for part, ours in context.decode(sequence(tokens))
            ]
            self._say({"window": by_token(predicting(found)), "of": len(sequences)})
            base = base[len(tokens) :]
        return {"n_windows": len(sequences)}

    def _window(self, context: Context, tokens: list[int]) -> dict[str, Any]:
        """Sum and sum of squares of -log-likelihood over the second half's tokens that have a finite one."""
        half = len(tokens) // 2
        context.clear()
        targets = np.array([*tokens[half + 1 :], 0], np.int32)
        # The last token predicts nothing that is scored. It is decoded because the engine's kernels take tokens in
        # groups: with one less, another kernel does the rest and the fourth digit changes.
        rows = sequence(tokens, wanted_from=half)
        found = np.concatenate(
            [pick(logits, np.arange(len(logits)), targets[part])[0] for part, logits in context.decode(rows)]
        )
        found = found[:-1]
        valid = found[np.isfinite(found)]
        return {
            "nll": -valid.sum(),
            "nll2": np.square(valid).sum(),
            "n": len(valid),
            "n_invalid": len(found) - len(valid),
        }

    def _need(self, n_tokens: int) -> None:
        if n_tokens > self._limit:
            raise ContextOverflow(
                f"{n_tokens} tokens do not fit the context of {self._limit}.",
                do="Shorten the text or load a longer context.",
            )

    def _fitting(self, n_tokens: int) -> Context:
        """A context that holds `n_tokens` or, where they are more than the limit, as many as it may."""
        if self._context is None or self._context.n_ctx < min(n_tokens, self._limit):
            size = max(SMALLEST_CONTEXT, 1 << (n_tokens - 1).bit_length())
            self._context = None  # its memory first
            size = min(size, max(self._limit, SMALLEST_CONTEXT))
            self._context = Context(self._weights, size, self._threads, self._lives)
        return self._context

    def _lives(self, n_tokens: int) -> None:
        self._n_decoded += n_tokens
        self._say({"decoded": n_tokens})


def start_of(weights: Weights) -> list[int]:
    """What every text begins with."""
    return [weights.bos] if weights.adds_bos else []


def windows(weights: Weights, text: str, window: int, *, special: bool = False) -> list[list[int]]:
    """The text's tokens, so many a window; the rest of the text is left out."""
    start = start_of(weights)
    tokens = start + weights.tokenize(text, special=special)
    if len(tokens) < 2 * window:
        raise BadInput(
            f"The text has {len(tokens)} tokens.",
            why=f"Perplexity over windows of {window} needs at least {2 * window}.",
            do="Give a longer text, or choose a shorter window.",
        )
    return cut(start, tokens, window)


def cut(start: list[int], tokens: Sequence[int], window: int) -> list[list[int]]:
    """As windows of so many, the first of each replaced by what every text begins with; the rest is left out."""
    firsts = range(0, len(tokens) // window * window, window)
    return [[*start, *tokens[first + len(start) : first + window]] for first in firsts]


def read_as_windows(weights: Weights, texts: Sequence[tuple[str, bool]], window: int) -> list[list[int]]:
    """Texts after one another. Of each comes whether its special tokens are read as such."""
    start = start_of(weights)
    tokens = start + [token for text, special in texts for token in weights.tokenize(text, special=special)]
    return cut(start, tokens, window)


def compared(context: Context, base: Context, tokens: list[int], start: int) -> dict[str, Any]:
    """Of the tokens from `start` to the last but one, a number each; None for what is none."""
    targets = np.array([*tokens[start + 1 :], 0], np.int32)
    rows = sequence(tokens, wanted_from=start)
    context.clear()
    base.clear()
    found = [
        side_by_side(logits, base_logits, targets[part])
        for (part, logits), (_, base_logits) in zip(context.decode(rows), base.decode(rows), strict=True)
    ]
    return by_token(predicting(found))


def by_token(found: SideBySide) -> dict[str, Any]:
    numbers = {name: [finite(value) for value in getattr(found, name)] for name in ("kl", "nll", "base_nll")}
    return {**numbers, "same": [bool(value) for value in found.same]}


def sequence(tokens: Sequence[int], *, start: int = 0, number: int = 0, wanted_from: int = 0) -> Rows:
    n = len(tokens)
    positions = np.arange(n, dtype=np.int32)
    ones = np.ones(n, np.int32)
    return Rows(np.array(tokens, np.int32), positions + start, ones, ones * number, positions >= wanted_from)


def of_forest(forest: Forest, wanted: Flags) -> Rows:
    members = forest.sequences()
    counts = np.array([len(each) for each in members], np.int32)
    sequences = np.concatenate(members).astype(np.int32)
    return Rows(np.array(forest.tokens, np.int32), np.array(forest.positions, np.int32), counts, sequences, wanted)


def joined(rows: Sequence[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(row, name) for row in rows]) for name in Rows.__slots__))


def waves(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Group indices: at most BRANCHES in a group, whose lengths sum to at most `room`. Lengths of 0 are left out."""
    wave: list[int] = []
    used = 0
    for i, length in enumerate(lengths):
        if not length:
            continue
        if wave and (len(wave) == BRANCHES or used + length > room):
            yield wave
            wave, used = [], 0
        wave.append(i)
        used += length
    if wave:
        yield wave


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def answers(scorer: Scorer, question: dict[str, Any]) -> dict[str, Any]:
    """`question` names a method in "do"; the rest are its arguments."""
    doing: dict[str, Callable[..., Any]] = {
        "tokenize": scorer.tokenize,
        "as_windows": scorer.as_windows,
        "pieces": scorer.pieces,
        "score": scorer.score,
        "predict": scorer.predict,
        "perplexity": scorer.perplexity,
        "fidelity": scorer.fidelity,
        "compare": scorer.compare,
    }
    return {"answer": doing[question.pop("do")](**question)}


def main() -> None:
    say = open_lifeline()
    questions = heard()
    try:
        config = next(questions)
        bound_memory(config["memory_limit"])
        scorer = Scorer(config, say)
        say({"answer": scorer.about()})
    except FilbertError as exc:
        say(told(exc))
        os._exit(0)
    for question in questions:
        try:
            say(answers(scorer, question))
        except FilbertError as exc:
            say(told(exc))
    os._exit(0)  # the engine's own threads are not waited for


if __name__ == "__main__":
    main()
