"""What a model file becomes in smaller types, known before a byte of it is read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filbert.compress.imatrix import ImportanceMatrix
from filbert.compress.recipe import FULL, Model, Planned, Recipe, needs_importance, planned, role_of
from filbert.core.errors import BadInput
from filbert.core.files import size
from filbert.models.gguf_write import Place, header_bytes, padded, placed
from filbert.models.header import Header, Tensor
from filbert.models.store import StoredModel

QUANTISATION_VERSION = 2  # ggml.h, GGML_QNT_VERSION
HEAD = ("tensors", "types", "bytes")


@dataclass(frozen=True)
class Source:
    """A model to compress. headers: of its files, in order."""

    stored: StoredModel
    headers: Sequence[Header]

    @cached_property
    def tensors(self) -> Mapping[str, tuple[Tensor, Path]]:
        """With the file of each."""
        files = zip(self.headers, self.stored.parts, strict=True)
        return {tensor.name: (tensor, path) for header, path in files for tensor in header.tensors}

    def model(self, has_importance: bool) -> Model:
        return Model(self.headers[0], [tensor for tensor, _ in self.tensors.values()], has_importance)


@dataclass(frozen=True)
class Plan:
    """What each tensor of a source becomes."""

    source: Source
    recipe: Recipe
    importance: ImportanceMatrix | None
    tensors: Sequence[Planned]

    @cached_property
    def places(self) -> list[Place]:
        return placed((each.tensor.name, each.tensor.shape, each.type) for each in self.tensors)

    @cached_property
    def size_bytes(self) -> int:
        """Of the file."""
        last = self.places[-1]
        return len(self.header) + last.offset + padded(last.size_bytes)

    @property
    def bits_a_weight(self) -> float:
        return 8 * sum(place.size_bytes for place in self.places) / sum(each.tensor.count for each in self.tensors)

    @property
    def fallen_back(self) -> list[Planned]:
        return [each for each in self.tensors if each.type != each.wanted]

    @property
    def rounded(self) -> list[Planned]:
        return [each for each in self.tensors if each.type not in FULL]

    @property
    def uncovered(self) -> list[Planned]:
        """Tensors that are rounded, and of which the importance matrix knows nothing."""
        known = self.importance.names if self.importance else frozenset()
        return [each for each in self.rounded if each.tensor.name not in known]

    @property
    def gaps(self) -> list[str]:
        """What the importance matrix, where there is one, does not know."""
        return self.importance.gaps([each.tensor for each in self.rounded]) if self.importance else []

    @cached_property
    def header(self) -> bytes:
        said = {
            "general.quantization_version": QUANTISATION_VERSION,
            "general.file_type": self.recipe.file_type,
        }
        return header_bytes(self.source.headers[0], said, self.places)

    @cached_property
    def identity(self) -> str:
        """Two plans of the same identity write the same bytes."""
        made_of = [self.source.stored.sha256, self.importance.sha256 if self.importance else ""]
        return hashlib.sha256(json.dumps(made_of).encode() + self.header).hexdigest()


def plan(
    source: Source, recipe: Recipe, importance: ImportanceMatrix | None = None, *, requantise: bool = False
) -> Plan:
    """Raises BadInput for a source that is compressed already, unless it may be, and for types that cannot do without
    an importance matrix."""
    made = Plan(source, recipe, importance, planned(recipe, source.model(importance is not None)))
    lossy = [each.tensor for each in made.tensors if each.tensor.type not in FULL and each.type != each.tensor.type]
    if lossy and not requantise:
        raise BadInput(
            f"{source.stored.name} is compressed already.",
            why=f"{len(lossy)} of its tensors are {lossy[0].type} and the like: their errors would be added to ours.",
            do="Take the full model, or add --allow-requantize.",
        )
    if blind := [each for each in made.uncovered if needs_importance(each, recipe)]:
        raise BadInput(
            f"{blind[0].type} needs an importance matrix.",
            why=f"{importance.path.name if importance else 'None'} covers {blind[0].tensor.name}.",
            do="Make one with `filbert imatrix`, or choose a type of 3 bits and more.",
        )
    return made


def rows(made: Plan) -> list[list[str]]:
    """Of each kind of tensor, whatever its block: how many there are, in which types, and their bytes."""
    types: dict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[str] = Counter()
    for each, place in zip(made.tensors, made.places, strict=True):
        name = role_of(each.tensor.name)
        types[name][each.type if each.type == each.wanted else f"{each.type} for {each.wanted}"] += 1
        sizes[name] += place.size_bytes
    return [
        [name, ", ".join(f"{count} × {kind}" for kind, count in types[name].most_common()), size(sizes[name])]
        for name in sorted(types, key=lambda name: -sizes[name])
    ]
