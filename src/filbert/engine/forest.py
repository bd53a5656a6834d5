"""Prompts and their endings as a forest of tokens: what several have in common is decoded once, and many items are
packed into one decode. Pure functions of the items, for the scorer's process and for whoever asks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from filbert.engine.scoring import N_BATCH, SEQUENCES

Tokens = Sequence[int]
ROOT = -1
ANY = 0  # a token that every vocabulary has


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and the endings that are scored after it, as tokens; neither is empty."""

    prefix: Tokens
    endings: Sequence[Tokens]


def followed(tokens: Tokens) -> Item:
    """A sequence whose tokens after the first are scored, and one more, so that what comes after the last is known."""
    return Item(tokens[:1], [[*tokens[1:], ANY]])


@dataclass(frozen=True, slots=True)
class Pick:
    """The logits at a node give the log-likelihood of one token of an ending. ending: counted over all items."""

    node: int
    token: int
    ending: int


class Forest:
    """tokens, positions: of each node, parents before their children. The last token of an ending predicts nothing that
    is asked for, so that it is no node."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.picks: list[Pick] = []
        self._parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}
        self._n_endings = 0
        for item in items:
            self.add(item)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, item: Item) -> None:
        last = self._path(ROOT, item.prefix)
        for ending in item.endings:
            node = last
            for i, token in enumerate(ending):
                self.picks.append(Pick(node, token, self._n_endings))
                if i + 1 < len(ending):
                    node = self._path(node, [token])
            self._n_endings += 1

    def _path(self, node: int, tokens: Tokens) -> int:
        for token in tokens:
            node = self._child(node, token)
        return node

    def _child(self, parent: int, token: int) -> int:
        child = self._children.setdefault((parent, token), len(self.tokens))
        if child == len(self.tokens):
            self.tokens.append(token)
            self.positions.append(0 if parent == ROOT else self.positions[parent] + 1)
            self._parents.append(parent)
        return child

    def leaves(self) -> list[int]:
        return sorted({*range(len(self))}.difference(self._parents))

    def sequences(self) -> list[list[int]]:
        """Of each node, the leaves below it, counted from 0: the sequences that it is a part of."""
        members: list[list[int]] = [[] for _ in self.tokens]
        for number, node in enumerate(self.leaves()):
            while node != ROOT:
                members[node].append(number)
                node = self._parents[node]
        return members


def packed(items: Sequence[Item], limit: int) -> Iterator[list[int]]:
    """Indices of the items of each decode, in their order. limit: tokens that a scorer's context holds.

    Beside its first item one takes in as many new tokens as one decode of the engine has, or as that item has where it
    is longer, so that a beginning which all share is repeated for no less than its own length of others.
    """
    batch: list[int] = []
    forest, room = Forest(), 0
    for i, item in enumerate(items):
        forest.add(item)
        if batch and (len(forest) > room or len(forest.leaves()) > SEQUENCES):
            yield batch
            batch, forest = [], Forest([item])
        if not batch:
            room = min(limit, max(N_BATCH, 2 * len(forest)))
        batch.append(i)
    if batch:
        yield batch
