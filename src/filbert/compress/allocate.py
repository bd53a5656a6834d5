"""Which type each tensor gets, so that the file is no larger than it may be and loses least: a knapsack.

Losses are taken to add up, as they do when each is small (the check of that is the optimiser's). First the types on
each tensor's convex hull are bought in the order of loss saved a byte (the Lagrangian's solutions, Everett 1963); then
what room is left is filled, and pairs of tensors exchange bytes for as long as that saves loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from filbert.core.errors import BadInput
from filbert.core.files import size

LEAST_GAIN = 1e-12
MOST_EXCHANGES = 10_000


@dataclass(frozen=True, slots=True)
class Choice:
    """A type that a tensor may get. loss: in nats a token, of the whole model."""

    type: str
    size_bytes: int
    loss: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """chosen: of each tensor, the place of its choice."""

    chosen: tuple[int, ...]
    size_bytes: int
    loss: float


def allocated(tensors: Sequence[Sequence[Choice]], room_bytes: int) -> Allocation:
    """The best that fits. Raises BadInput for less room than the smallest takes."""
    smallest = [min(range(len(each)), key=lambda i: (each[i].size_bytes, each[i].loss)) for each in tensors]
    chosen, left = smallest, room_bytes - _size(tensors, smallest)
    if left < 0:
        raise BadInput(
            f"No file of this model is as small as {size(room_bytes)}.",
            why=f"The smallest takes {size(room_bytes - left)}.",
            do="Allow more, or allow smaller types.",
        )
    for tensor, choice in _steps(tensors):
        more = tensors[tensor][choice].size_bytes - tensors[tensor][chosen[tensor]].size_bytes
        if more <= left:
            chosen[tensor] = choice
            left -= more
    _exchange(tensors, chosen, left)
    return _told(tensors, chosen)


def curve(tensors: Sequence[Sequence[Choice]]) -> list[Allocation]:
    """All that the Lagrangian gives, from the smallest to that of least loss."""
    chosen = [min(range(len(each)), key=lambda i: (each[i].size_bytes, each[i].loss)) for each in tensors]
    found = [_told(tensors, chosen)]
    for tensor, choice in _steps(tensors):
        chosen[tensor] = choice
        found.append(_told(tensors, chosen))
    return found


def hull(choices: Sequence[Choice]) -> list[int]:
    """Places of the choices on the lower convex hull, from the smallest to that of least loss."""
    order = sorted(range(len(choices)), key=lambda i: (choices[i].size_bytes, choices[i].loss))
    found: list[int] = []
    for i in order:
        if found and choices[i].loss >= choices[found[-1]].loss:
            continue
        while len(found) > 1 and _slope(choices, found[-2], found[-1]) <= _slope(choices, found[-1], i):
            found.pop()
        found.append(i)
    return found


def _steps(tensors: Sequence[Sequence[Choice]]) -> Iterator[tuple[int, int]]:
    """Each tensor's next choice on its hull, those first that save most a byte."""
    steps = []
    for tensor, choices in enumerate(tensors):
        path = hull(choices)
        steps += [(_slope(choices, a, b), tensor, place, b) for place, (a, b) in enumerate(pairwise(path))]
    for _, tensor, _, choice in sorted(steps, key=lambda step: (-step[0], step[1], step[2])):
        yield tensor, choice


def _slope(choices: Sequence[Choice], a: int, b: int) -> float:
    """Loss saved a byte."""
    more = choices[b].size_bytes - choices[a].size_bytes
    return (choices[a].loss - choices[b].loss) / more if more else np.inf


def _exchange(tensors: Sequence[Sequence[Choice]], chosen: list[int], left: int) -> None:
    """In place: the one or two changes that save most and fit, until none does."""
    for _ in range(MOST_EXCHANGES):
        moves = [
            (choice.size_bytes - each[now].size_bytes, choice.loss - each[now].loss, tensor, place)
            for tensor, (each, now) in enumerate(zip(tensors, chosen, strict=True))
            for place, choice in enumerate(each)
            if place != now
        ]
        best = _best_of_two(sorted(moves), left)
        if not best:
            return
        for more, _, tensor, place in best:
            chosen[tensor] = place
            left -= more


Move = tuple[int, float, int, int]  # bytes more, loss more, tensor, choice


def _best_of_two(moves: Sequence[Move], left: int) -> list[Move]:
    """moves: from the fewest bytes up."""
    sizes = np.array([move[0] for move in moves])
    least: list[int] = []  # the best of the moves so far; and, of another tensor, the second best
    second: list[int] = []
    for i, (_, loss, tensor, _) in enumerate(moves):
        first, other = (least[-1], second[-1]) if i else (-1, -1)
        if first < 0 or loss < moves[first][1]:
            other = first if first >= 0 and moves[first][2] != tensor else other
            first = i
        elif moves[first][2] != tensor and (other < 0 or loss < moves[other][1]):
            other = i
        least.append(first)
        second.append(other)
    best, gain = [], -LEAST_GAIN
    for move in moves:
        if move[0] <= left and move[1] < gain:
            best, gain = [move], move[1]
        n = int(np.searchsorted(sizes, left - move[0], side="right"))
        if not n:
            continue
        partner = least[n - 1] if moves[least[n - 1]][2] != move[2] else second[n - 1]
        if partner >= 0 and moves[partner][2] != move[2] and move[1] + moves[partner][1] < gain:
            best, gain = [move, moves[partner]], move[1] + moves[partner][1]
    return best


def _size(tensors: Sequence[Sequence[Choice]], chosen: Sequence[int]) -> int:
    return sum(each[i].size_bytes for each, i in zip(tensors, chosen, strict=True))


def _told(tensors: Sequence[Sequence[Choice]], chosen: Sequence[int]) -> Allocation:
    loss = sum(each[i].loss for each, i in zip(tensors, chosen, strict=True))
    return Allocation(tuple(chosen), _size(tensors, chosen), loss)
