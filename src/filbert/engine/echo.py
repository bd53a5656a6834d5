"""Prompts told again: each token, how likely it was, and what was likelier. For a gateway, whose clients take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from filbert.core.errors import BadInput
from filbert.engine.bounds import Input, input_bound, need_context
from filbert.engine.forest import followed, packed
from filbert.engine.transport import overflow

if TYPE_CHECKING:
    from filbert.engine.load_plan import LoadPlan
    from filbert.engine.model import Model
    from filbert.engine.scorer import Prediction, Scorer

MOST_NUMBERS = 1 << 20  # told of one request
AGAIN_S = 0.05
T = TypeVar("T")
Likely = tuple[bytes, float | None]


@dataclass(frozen=True, slots=True)
class EchoedToken:
    """piece: what it stands for, which may be a part of a character. loglikelihood: nats; None of what nothing stands
    before, and where the engine gave no number. likeliest: what could stand there, the likeliest first."""

    piece: bytes
    loglikelihood: float | None
    likeliest: tuple[Likely, ...]


@dataclass(frozen=True, slots=True)
class Echo:
    """tokens: those of the prompt as it was given; following: the likeliest after them; n_read: tokens that were read,
    also those that the model wants before every text."""

    tokens: tuple[EchoedToken, ...]
    following: EchoedToken
    n_read: int


@dataclass(frozen=True, slots=True)
class _Given:
    """A prompt as tokens. n_before: how many of them stand before what was given."""

    prompt: Input
    tokens: list[int]
    n_before: int


async def echoes(
    model: Model, prompts: Sequence[Input], n: int, owner: str = "", most_waiting: int | None = None
) -> list[Echo]:
    """One a prompt, which is a text or tokens; n: how many of the likeliest are told at each place. A batch at a time,
    so that others get their turn; who stops waiting ends the one under way. Raises BadInput, ContextOverflow, and Busy
    where so many wait already."""
    model.need("text")
    plan = model.children.plan
    for prompt in prompts:
        if isinstance(prompt, str):
            need_context(input_bound(prompt), plan.scored_context, plan.header.context_length)
        else:
            model.need_tokens(prompt)
    given = await _asked(model, lambda scorer: _given(scorer, prompts), owner, most_waiting)
    _need_room(given, n, plan)
    found: list[Echo] = []
    for batch in packed([followed(each.tokens) for each in given], plan.scored_context):
        found += await _asked(model, _Batch([given[i] for i in batch], n), owner)
    return found


def _need_room(given: Sequence[_Given], n: int, plan: LoadPlan) -> None:
    sizes = [len(each.tokens) for each in given]
    if max(sizes) >= plan.scored_context:  # a token follows
        raise overflow(max(sizes), plan.scored_context, plan.header.context_length)
    if (numbers := sum(sizes) * (1 + n)) > MOST_NUMBERS:
        raise BadInput(f"{numbers} log-probabilities are too many.", do="Send fewer prompts in one request.")


async def _asked(model: Model, ask: Callable[[Scorer], T], owner: str, most_waiting: int | None = None) -> T:
    """What the scorer says when it is the owner's turn."""
    place = model.children.ask_scorer(owner, most_waiting)
    try:
        await place.reach()
        scorer = await model.waited(lambda: model.scorer)
        asking = asyncio.ensure_future(model.waited(lambda: ask(scorer)))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            while not asking.done():  # its thread may be just about to ask
                scorer.cancel()
                await asyncio.wait({asking}, timeout=AGAIN_S)
            asking.exception()
            raise
    finally:
        place.give_back()


def _given(scorer: Scorer, prompts: Sequence[Input]) -> list[_Given]:
    """A text begins as the model wants it, tokens stand as they are."""
    texts = iter(scorer.tokenize([prompt for prompt in prompts if isinstance(prompt, str)]))
    start, first = scorer.start, scorer.first
    found = [
        _Given(prompt, [*start, *next(texts)], len(start))
        if isinstance(prompt, str)
        else _Given(prompt, list(prompt), 0)
        for prompt in prompts
    ]
    return [each if each.tokens else replace(each, tokens=[first], n_before=1) for each in found]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Prompts that are decoded together."""

    given: list[_Given]
    n: int

    def __call__(self, scorer: Scorer) -> list[Echo]:
        found = scorer.predict([each.tokens for each in self.given], max(1, self.n))
        told = (token for predictions in found for each in predictions for token, _ in each.likeliest)
        tokens = sorted({*told, *(token for each in self.given for token in each.tokens)})
        pieces = dict(zip(tokens, scorer.pieces(tokens), strict=True))
        return [self._echo(each, predictions, pieces) for each, predictions in zip(self.given, found, strict=True)]

    def _echo(self, given: _Given, predictions: Sequence[Prediction], pieces: Mapping[int, bytes]) -> Echo:
        places = [[(pieces[token], value) for token, value in each.likeliest] for each in predictions]
        values = [each.loglikelihood for each in predictions[:-1]]
        tokens = [
            EchoedToken(pieces[token], value, tuple(likeliest[: self.n]))
            for token, value, likeliest in zip(given.tokens, [None, *values], [[], *places], strict=False)
        ][given.n_before :]
        if tokens and isinstance(given.prompt, str) and not given.prompt.startswith(" "):
            tokens[0] = replace(tokens[0], piece=tokens[0].piece.removeprefix(b" "))  # some tokenizers put one there
        following = EchoedToken(*places[-1][0], tuple(places[-1][: self.n]))
        return Echo(tuple(tokens), following, len(given.tokens))
