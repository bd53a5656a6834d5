"""The best file of a size: a table of what each tensor loses in each type, and the recipes that it gives.

The table is made once a model and serves all sizes: its whole curve of size against loss, with llama.cpp's own mixes on
it, is told without anything being measured again.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filbert.compress.allocate import Allocation, Choice, allocated, curve
from filbert.compress.imatrix import ImportanceMatrix
from filbert.compress.plan import Plan, Source, plan
from filbert.compress.recipe import FULL, OWN_MIX, Recipe, Rule, stock, stock_names
from filbert.compress.sensitivity import Sensitivity
from filbert.core.errors import BadInput, FilbertError
from filbert.core.files import size
from filbert.models.gguf_write import padded, size_of

CURVE_POINTS = 24
HEAD = ("size", "bits a weight", "KL divergence, foretold", "recipe")
NOTE = (
    "Foretold in nats a token, as if each tensor were rounded alone. The 8-bit activations with which the engine "
    "multiplies cost any file some thousandths more."
)


@dataclass(frozen=True)
class Point:
    """loss: nats a token, as the table tells it. recipe: "" where it is ours."""

    size_bytes: int
    bits_a_weight: float
    loss: float
    recipe: str = ""

    def cells(self) -> list[str]:
        return [size(self.size_bytes), f"{self.bits_a_weight:.2f}", f"{self.loss:.4f}", self.recipe or "the best"]


@dataclass(frozen=True)
class Table:
    """A model's sensitivity, and the plans that it gives."""

    source: Source
    importance: ImportanceMatrix | None
    sensitivity: Sensitivity

    @cached_property
    def names(self) -> list[str]:
        """Of the tensors that were measured; all others stay as they are."""
        return [name for name in self.source.tensors if self.sensitivity.losses.get(name)]

    @cached_property
    def choices(self) -> list[list[Choice]]:
        """Of each tensor its types: bytes in the file, nats a token."""
        return [
            [
                Choice(kind, padded(size_of(self.source.tensors[name][0].shape, kind)), loss)
                for kind, loss in self.sensitivity.losses[name].items()
            ]
            for name in self.names
        ]

    @cached_property
    def allocations(self) -> list[Allocation]:
        """From the smallest to that of least loss."""
        return curve(self.choices)

    def _other_bytes(self, name: str = "", **how: Any) -> int:
        """Of a file, besides the tensors that were measured; its header says its name and how it was made."""
        smallest = self.allocations[0]
        return self._plan(smallest, name, **how).size_bytes - smallest.size_bytes

    def of_size(self, size_bytes: int, name: str, **how: Any) -> Plan:
        """The plan of a file of no more than so many bytes. name: of its recipe; how: as `plan` takes it. Raises
        BadInput for less than the smallest takes, which it tells."""
        other = self._other_bytes(name, **how)
        room = size_bytes - other
        smallest = self.allocations[0].size_bytes
        if room < smallest:
            raise BadInput(
                f"{self.source.original.name} cannot be as small as {size(size_bytes)}.",
                why=f"The smallest file of these types takes {other + smallest:,} bytes.",
                do="Allow more, or take a smaller model.",
            )
        return self._plan(allocated(self.choices, room), name, **how)

    def of_bits(self, bits_a_weight: float, name: str, **how: Any) -> Plan:
        """The same, by what `Plan.bits_a_weight` tells."""
        smallest = self._plan(self.allocations[0], name, **how)
        around = smallest.size_bytes - smallest.bits_a_weight * self.source.count / 8
        return self.of_size(int(bits_a_weight * self.source.count / 8 + around), name, **how)

    def size_for(self, loss: float, name: str = "", **how: Any) -> int:
        """Bytes of the smallest file that the table tells to lose no more, or of that which loses least."""
        found = self.allocations
        enough = next((each for each in found if each.loss <= loss), found[-1])
        return enough.size_bytes + self._other_bytes(name, **how)

    def loss(self, made: Plan) -> float:
        """Nats a token, as if each tensor were rounded alone; tensors that stay as they are lose nothing. Raises
        KeyError for types that were not measured."""
        types = {each.tensor.name: each.type for each in made.tensors if each.type not in FULL}
        return sum(self.sensitivity.losses[name][kind] for name, kind in types.items())

    def curve(self, name: str = "", **how: Any) -> list[Point]:
        """From the smallest file to that of least loss, evenly in bytes."""
        found = self.allocations
        first, last = found[0].size_bytes, found[-1].size_bytes
        marks = [first + (last - first) * i / (CURVE_POINTS - 1) for i in range(CURVE_POINTS)]
        nearest = {min(range(len(found)), key=lambda i: abs(found[i].size_bytes - mark)) for mark in marks}
        other = self._other_bytes(name, **how)
        measured = set(self.names)
        kept = sum(each.size_bytes for tensor, (each, _) in self.source.tensors.items() if tensor not in measured)
        return [
            Point(each.size_bytes + other, 8 * (each.size_bytes + kept) / self.source.count, each.loss)
            for each in (found[i] for i in sorted(nearest))
        ]

    def stock(self) -> Iterator[Point]:
        """llama.cpp's mixes, as far as the table has their types."""
        for name in stock_names():
            try:
                made = plan(self.source, stock(name), self.importance)
                loss = self.loss(made)
            except (FilbertError, KeyError):
                continue
            if loss:
                yield Point(made.size_bytes, made.bits_a_weight, loss, name)

    def _plan(self, found: Allocation, name: str, **how: Any) -> Plan:
        types = {tensor: each[i].type for tensor, each, i in zip(self.names, self.choices, found.chosen, strict=True)}
        return plan(self.source, recipe_of(name, types), self.importance, **how)


def recipe_of(name: str, types: Mapping[str, str]) -> Recipe:
    """A rule for each kind of tensor in each type, by the numbers of its blocks."""
    usual = Counter(types.values()).most_common(1)[0][0]
    blocks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for tensor, kind in types.items():
        if found := re.fullmatch(r"blk\.(\d+)\.(.+)", tensor):
            blocks[found[2], kind].append(found[1])
        else:
            blocks[tensor, kind] = []
    rules = [
        Rule(tensor=_pattern(role, numbers), type=kind) for (role, kind), numbers in blocks.items() if kind != usual
    ]
    return Recipe(name=name, type=usual, rules=tuple(rules), file_type=OWN_MIX)


def _pattern(role: str, blocks: Sequence[str]) -> str:
    return rf"^blk\.({'|'.join(blocks)})\.{re.escape(role)}$" if blocks else f"^{re.escape(role)}$"


def draw(found: Table, file: Path) -> None:
    """The curve, and llama.cpp's mixes beside it. Raises BadInput without matplotlib, or for another kind of file."""
    from filbert.report import chart

    line = [(point.size_bytes / 1e6, point.loss) for point in found.curve()]
    stock = [(point.recipe, point.size_bytes / 1e6, point.loss, (point.loss, point.loss)) for point in found.stock()]
    title = f"{found.source.original.name}: what compression costs"
    drawn = chart.curve(stock, title, "size, MB", "KL divergence, foretold, nats a token", line)
    drawn.write(file)
