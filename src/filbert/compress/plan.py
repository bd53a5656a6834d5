"""What a model file becomes in smaller types, known before a byte of it is read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from filbert.compress.imatrix import ImportanceMatrix
from filbert.compress.making import NO_HASH, Making
from filbert.compress.recipe import FULL, Model, Planned, Recipe, needs_importance, planned, role_of
from filbert.core.errors import BadInput
from filbert.core.files import size
from filbert.models.gguf_write import Place, Short, Signed, Value, header_bytes, padded, placed
from filbert.models.header import Header, Tensor
from filbert.models.store import StoredModel

QUANTISATION_VERSION = 2  # ggml.h, GGML_QNT_VERSION
HEAD = ("tensors", "types", "bytes")


@dataclass(frozen=True)
class Source:
    """A model to compress. headers: of its files, in order. Where these are the same model re-scaled by `equalise.py`,
    origin is the model as it was released, and exponent how."""

    stored: StoredModel
    headers: Sequence[Header]
    origin: StoredModel | None = None
    exponent: float | None = None

    @property
    def original(self) -> StoredModel:
        return self.origin or self.stored

    @cached_property
    def tensors(self) -> Mapping[str, tuple[Tensor, Path]]:
        """With the file of each."""
        files = zip(self.headers, self.stored.parts, strict=True)
        return {tensor.name: (tensor, path) for header, path in files for tensor in header.tensors}

    @cached_property
    def count(self) -> int:
        """Of weights."""
        return sum(tensor.count for tensor, _ in self.tensors.values())

    def model(self, has_importance: bool) -> Model:
        return Model(self.headers[0], [tensor for tensor, _ in self.tensors.values()], has_importance)


@dataclass(frozen=True)
class Part:
    """A file of those that are written. number: from 0."""

    number: int
    tensors: Sequence[Planned]

    @cached_property
    def places(self) -> list[Place]:
        return _placed(self.tensors)

    @property
    def data_bytes(self) -> int:
        last = self.places[-1]
        return last.offset + padded(last.size_bytes)


@dataclass(frozen=True)
class Plan:
    """What each tensor of a source becomes. command: what makes the file again; split_bytes: the most that a file may
    have, where there are to be several."""

    source: Source
    recipe: Recipe
    importance: ImportanceMatrix | None
    tensors: Sequence[Planned]
    command: str = ""
    split_bytes: int | None = None

    @cached_property
    def places(self) -> list[Place]:
        """As one file has them."""
        return _placed(self.tensors)

    @cached_property
    def parts(self) -> list[Part]:
        """The files, each as full as it may be. Raises BadInput where a tensor is larger than one."""
        if not self.split_bytes:
            return [Part(0, self.tensors)]
        room = self.split_bytes - len(self._header(Part(0, self.tensors), self._made_of(NO_HASH), 2))
        if (largest := max(self.places, key=lambda place: place.size_bytes)).size_bytes > room:
            raise BadInput(
                f"No file of {size(self.split_bytes)} holds {largest.name}.",
                why=f"It takes {size(largest.size_bytes)}, and the header up to {size(self.split_bytes - room)}.",
                do="Take a larger --split-size.",
            )
        found: list[list[Planned]] = []
        left = 0
        for each, place in zip(self.tensors, self.places, strict=True):
            if not found or padded(place.size_bytes) > left:
                found.append([])
                left = room
            left -= padded(place.size_bytes)
            found[-1].append(each)
        return [Part(number, tensors) for number, tensors in enumerate(found)]

    def names(self, name: str) -> list[str]:
        """Of the files, as llama.cpp's gguf-split has them, where the model is called so."""
        n, stem = len(self.parts), name.removesuffix(".gguf")
        return [f"{stem}-{part.number + 1:05}-of-{n:05}.gguf" for part in self.parts] if n > 1 else [name]

    @cached_property
    def header_sizes(self) -> list[int]:
        """Bytes before the data of each file; nothing but headers is read for it."""
        return [len(self.header(part, self._made_of(NO_HASH))) for part in self.parts]

    @cached_property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(self.header_sizes) + sum(part.data_bytes for part in self.parts)

    def as_header(self) -> Header:
        """What the file will say of its tensors, for those who reckon with a header."""
        tensors = [
            Tensor(place.name, place.shape, place.type, place.offset, place.size_bytes, each.tensor.count)
            for place, each in zip(self.places, self.tensors, strict=True)
        ]
        return replace(self.source.headers[0], tensors=tuple(tensors), size_bytes=self.size_bytes)

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
    def making(self) -> Making:
        """Reads the source and the importance matrix for their hashes, which may take a while."""
        return self._made_of(self.source.original.sha256, self.importance.sha256 if self.importance else "")

    def header(self, part: Part, making: Making) -> bytes:
        return self._header(part, making, len(self.parts))

    @cached_property
    def identity(self) -> str:
        """Two plans of the same identity write the same bytes."""
        headers = b"".join(self.header(part, self.making) for part in self.parts)
        return hashlib.sha256(headers).hexdigest()

    def _header(self, part: Part, making: Making, n_parts: int) -> bytes:
        """As gguf-split has them, all but the first say nothing of the model."""
        said: dict[str, Value] = {}
        if part.number == 0:
            said |= {"general.quantization_version": QUANTISATION_VERSION, "general.file_type": self.recipe.file_type}
            said |= making.keys()
        if n_parts > 1:
            said |= {"split.no": Short(part.number), "split.count": Short(n_parts)}
            said |= {"split.tensors.count": Signed(len(self.tensors))}
        return header_bytes(None if part.number else self.source.headers[0], said, part.places)

    def _made_of(self, source_sha256: str, imatrix_sha256: str | None = None) -> Making:
        if imatrix_sha256 is None:
            imatrix_sha256 = source_sha256 if self.importance else ""
        types = json.dumps([(each.tensor.name, each.type) for each in self.tensors])
        types_sha256 = hashlib.sha256(types.encode()).hexdigest()
        name, exponent = Path(self.source.original.name).name, self.source.exponent
        return Making(name, source_sha256, self.recipe.name, types_sha256, imatrix_sha256, self.command, exponent)


def plan(
    source: Source,
    recipe: Recipe,
    importance: ImportanceMatrix | None = None,
    *,
    requantise: bool = False,
    command: str = "",
    split_bytes: int | None = None,
) -> Plan:
    """command, split_bytes: as the Plan's. Raises BadInput for a source that is compressed already, unless it may be,
    and for types that cannot do without an importance matrix."""
    types = planned(recipe, source.model(importance is not None))
    made = Plan(source, recipe, importance, types, command, split_bytes)
    lossy = [each.tensor for each in made.tensors if each.tensor.type not in FULL and each.type != each.tensor.type]
    if lossy and not requantise:
        raise BadInput(
            f"{source.original.name} is compressed already.",
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


def _placed(tensors: Sequence[Planned]) -> list[Place]:
    return placed((each.tensor.name, each.tensor.shape, each.type) for each in tensors)
