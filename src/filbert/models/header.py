"""What a GGUF header says of a model: the record that `show`, `fit` and the engine read."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from filbert.core.errors import BadInput, BadModelFile
from filbert.models.gguf_types import FILE_TYPES, POOLING_TYPES

ReadAt: TypeAlias = Callable[[int, int], bytes]  # (offset, length) -> bytes; fewer only where the file is shorter
Kind: TypeAlias = Literal["language", "embedding", "reranker", "projector", "adapter", "other"]

# Encoders whose files may leave out a pooling type; the engine then needs one from its caller.
ENCODERS = frozenset(
    (
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "gemma-embedding",
    )
)
RECURRENT_KEYS = ("ssm.", "wkv.", "shortconv.", "kda.")
NUMBER_CODES = {
    "u8": "B",
    "i8": "b",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "f32": "f",
    "bool": "?",
    "u64": "Q",
    "i64": "q",
    "f64": "d",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A value too big to keep, checked and left in the file; `Header.load` reads it.
    kind: a number type ("f32", …) or "string" for an array of them, "text" for one long string."""

    kind: str
    count: int
    offset: int
    size_bytes: int

    def __len__(self) -> int:
        return self.count


Value: TypeAlias = int | float | str | tuple[int | float | str, ...] | Stored


@dataclass(frozen=True, slots=True)
class Tensor:
    """shape: as GGUF writes it, the row length first. offset: bytes from the start of the file."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int
    count: int  # weights


@dataclass(frozen=True, slots=True)
class Header:
    """A checked GGUF header. Lengths are in values, sizes and offsets in bytes; None where the file does not say.
    places: the bytes of the file that hold a key and its value."""

    source: str  # the file's name, for messages
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    size_bytes: int
    read_at: ReadAt = field(repr=False, compare=False)
    places: Mapping[str, range] = field(default_factory=dict, repr=False, compare=False)

    def load(self, key: str) -> Value:
        """The value of `key`, read from the file where it was left there. Raises KeyError, BadModelFile."""
        value = self.metadata[key]
        if not isinstance(value, Stored):
            return value
        data = self.read_at(value.offset, value.size_bytes)
        if len(data) != value.size_bytes:
            raise BadModelFile(f"{self.source} changed while it was read.", do="Try again once it is complete.")
        try:
            return decode(value, data)
        except struct.error as exc:
            raise BadModelFile(
                f"{self.source} changed while it was read.", do="Try again once it is complete."
            ) from exc

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        if isinstance(value, Stored) and value.kind == "text":
            value = self.load(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """The integer under `{architecture}.{key}`."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) else None

    def per_layer(self, key: str) -> tuple[int, ...] | None:
        """The integers under `{architecture}.{key}`, one a block, whether the file holds one for all or an array."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, int):
            return (value,) * (self.block_count or 0)
        if isinstance(value, tuple):
            return tuple(int(item) for item in value)
        return None

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or ""

    @property
    def licence(self) -> str | None:
        return self.text("general.license.name") or self.text("general.license")

    @property
    def parameters(self) -> int:
        return sum(tensor.count for tensor in self.tensors)

    @property
    def context_length(self) -> int | None:
        """Tokens it was trained on."""
        return self.number("context_length")

    @property
    def block_count(self) -> int | None:
        return self.number("block_count")

    @property
    def embedding_length(self) -> int | None:
        return self.number("embedding_length")

    @property
    def head_counts(self) -> tuple[int, ...]:
        """Query heads, one number a block; empty where there is no attention."""
        return self.per_layer("attention.head_count") or ()

    @property
    def kv_head_counts(self) -> tuple[int, ...]:
        """Key and value heads, one number a block; 0 in a block without attention."""
        return self.per_layer("attention.head_count_kv") or self.head_counts

    @property
    def key_length(self) -> int:
        """Values in a key of one head."""
        return self.number("attention.key_length") or self._head_length

    @property
    def value_length(self) -> int:
        return self.number("attention.value_length") or self._head_length

    @property
    def _head_length(self) -> int:
        heads = self.head_counts[0] if self.head_counts else 0
        return (self.embedding_length or 0) // heads if heads else 0

    @property
    def recurrent(self) -> bool:
        """Whether some block keeps a state instead of (or beside) keys and values."""
        prefixes = tuple(f"{self.architecture}.{key}" for key in RECURRENT_KEYS)
        return any(key.startswith(prefixes) for key in self.metadata)

    @property
    def expert_used_count(self) -> int:
        return max(self.per_layer("expert_used_count") or (0,))

    @property
    def vocab_size(self) -> int | None:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return len(tokens) if isinstance(tokens, tuple | Stored) else self.number("vocab_size")

    @property
    def tensor_types(self) -> Mapping[str, tuple[int, int]]:
        """{type: (tensors, bytes)}, the most bytes first."""
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.type] += 1
            sizes[tensor.type] += tensor.size_bytes
        return {kind: (counts[kind], size) for kind, size in sizes.most_common()}

    @property
    def quantisation(self) -> str:
        """The label people know ("Q4_K_M"), or the commonest tensor type where the file gives none."""
        label = self.metadata.get("general.file_type")
        known = FILE_TYPES.get(label) if isinstance(label, int) else None
        return known or next(iter(self.tensor_types), "")

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    @property
    def pooling(self) -> str | None:
        value = self.number("pooling_type")
        return None if value is None else POOLING_TYPES.get(value)

    @property
    def kind(self) -> Kind:
        said = self.text("general.type")
        if said == "adapter":
            return "adapter"
        if said == "mmproj" or self.architecture == "clip":
            return "projector"
        if said not in (None, "model") or not self.architecture:
            return "other"
        return self._kind_of_model

    @property
    def _kind_of_model(self) -> Kind:
        if self.pooling == "rank" or any(tensor.name == "cls.output.weight" for tensor in self.tensors):
            return "reranker"
        pooled = self.pooling in ("mean", "cls", "last")
        return "embedding" if pooled or self.architecture in ENCODERS else "language"

    @property
    def split(self) -> tuple[int, int] | None:
        """(this part's number from 0, parts), or None where the file is whole."""
        number, parts = self.metadata.get("split.no"), self.metadata.get("split.count")
        if isinstance(number, int) and isinstance(parts, int) and parts > 1:
            return number, parts
        return None

    @property
    def split_tensor_count(self) -> int | None:
        """Tensors in all parts together."""
        value = self.metadata.get("split.tensors.count")
        return value if isinstance(value, int) else None


def decode(stored: Stored, data: bytes) -> Value:
    """The value whose bytes `data` are. The lengths inside were checked when the header was read."""
    if stored.kind == "text":
        return data.decode(errors="replace")
    if stored.kind == "string":
        return tuple(_strings(data, stored.count))
    return struct.unpack(f"<{stored.count}{NUMBER_CODES[stored.kind]}", data)


def _strings(data: bytes, count: int) -> list[str]:
    found, at = [], 0
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 8 : at + 8 + length].decode(errors="replace"))
        at += 8 + length
    return found


def no_numbers(tensor: str) -> BadInput:
    return BadInput(
        f"{tensor} holds weights that are no numbers.",
        why="NaN or infinity is in the source.",
        do="Get the full model again, or convert it anew.",
    )
