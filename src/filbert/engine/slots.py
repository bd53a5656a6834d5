"""Which slot of a worker an answer is computed in, where several owners ask one model.

The engine builds upon whatever prompt any of its slots holds. So that nobody can find out, by the time an answer takes
or by `cached_tokens`, what others asked, a slot belongs to whoever used it last: for another it starts from nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice, takewhile
from typing import Any, Literal

# Whether what one owner left in a worker is kept from others: never where all are one, always, or as soon as a second
# one asks. Until then the engine remembers best by itself.
Apart = Literal["never", "once_two_ask", "always"]
Marks = tuple[int, ...]
MARKED_CHARACTERS = 256
MOST_MARKS = 1024


@dataclass(eq=False, slots=True)
class Slot:
    """owner: whose prompt it holds, None where that is not known for sure. used: when, as a number that grows."""

    number: int
    owner: str | None = None
    marks: Marks = ()
    used: int = 0
    taken: bool = False


class Slots:
    """Of one worker. Used under the lock of the `Admission`, which gives out no more places than there are slots."""

    def __init__(self, n: int) -> None:
        self._slots = [Slot(number) for number in range(n)]
        self._times = count(1)

    def take(self, owner: str, marks: Marks) -> tuple[Slot, dict[str, Any]]:
        """A slot, and what the engine is told of it."""
        free = [slot for slot in self._slots if not slot.taken]
        going_on = [slot for slot in free if slot.owner == owner and _goes_on(slot.marks, marks)]
        longest = max(going_on, key=lambda slot: len(_common(slot.marks, marks)), default=None)
        slot = longest or min(free, key=lambda slot: slot.used)
        is_own = slot.owner == owner
        slot.taken, slot.owner, slot.marks = True, None, marks
        return slot, {"id_slot": slot.number, "cache_prompt": is_own}

    def give_back(self, slot: Slot, owner: str | None) -> None:
        """owner: whose prompt it holds now; None unless the engine said that it had begun, for until then it may hold
        the one before."""
        slot.taken, slot.owner, slot.used = False, owner, next(self._times)


def marks_of(body: Mapping[str, Any]) -> Marks:
    """A prompt as numbers, a few hundred characters each, by which it is known how much of two is the same."""
    mark, marks = 0, []
    said = [body.get(name, "") for name in ("tools", "messages", "prompt")]
    for piece in islice(_pieces(said), MOST_MARKS):
        mark = zlib.crc32(piece.encode("utf-8", "replace"), mark)
        marks.append(mark)
    return tuple(marks)


def _pieces(said: Any) -> Iterator[str]:
    """The texts in it, cut; an image has megabytes, of which only the first are looked at."""
    if isinstance(said, str):
        for start in range(0, len(said), MARKED_CHARACTERS):
            yield said[start : start + MARKED_CHARACTERS]
    elif isinstance(said, Mapping):
        yield from _pieces([each for name, each in said.items() if name not in ("role", "type")])
    elif isinstance(said, Sequence):
        for each in said:
            yield from _pieces(each)
    else:
        yield str(said)


def _common(one: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    return list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _goes_on(held: Marks, asked: Marks) -> bool:
    """Whether most of what a slot holds is of use: else another slot is taken, and this one keeps its conversation."""
    return 2 * len(_common(held, asked)) > len(held)
