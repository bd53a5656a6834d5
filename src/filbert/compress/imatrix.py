"""Importance matrices, as llama.cpp keeps them (tools/imatrix): how large the values are that a column is multiplied
with, summed as squares over the tokens of a text.

A GGUF file of the type "imatrix"; of a tensor `X` it holds `X.in_sum2` (columns, matrices) and `X.counts`, one for all
or one a matrix: each expert is a matrix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from filbert.compress.recipe import quantisable
from filbert.core.errors import BadInput
from filbert.core.files import alone, move_whole, sha256_of, write_whole
from filbert.core.jobs import Job
from filbert.core.pairs import Pair
from filbert.engine import capi_layout
from filbert.engine.chat_prompt import chat_prompt
from filbert.engine.importance import collected
from filbert.engine.load_plan import LoadPlan
from filbert.engine.model import Model
from filbert.engine.quantiser import Importance
from filbert.models.gguf import read_header
from filbert.models.header import Header, Tensor

SUMS, COUNTS = ".in_sum2", ".counts"
LEAST_WINDOW = 32  # tokens
FEW_TOKENS = 64  # under which an expert's sums are chance
SHOWN = 3  # tensors that a sentence names


@dataclass(frozen=True, slots=True)
class Text:
    """What is read for an importance matrix. special: whether `<|im_start|>` and its like are single tokens."""

    name: str
    text: str
    special: bool = False


@dataclass(frozen=True)
class ImportanceMatrix:
    """made_of: the sha256 of the one that `rescaled` made it of."""

    path: Path
    header: Header
    made_of: str = ""

    @cached_property
    def sha256(self) -> str:
        return self.made_of or sha256_of(self.path)

    @property
    def n_windows(self) -> int:
        """Of the text it was made of; 0 where the file does not say."""
        found = self.header.metadata.get("imatrix.chunk_count")
        return found if isinstance(found, int) else 0

    @cached_property
    def names(self) -> frozenset[str]:
        """Of the tensors it knows."""
        return frozenset(name.removesuffix(SUMS) for name in self._tensors if name.endswith(SUMS))

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        return {tensor.name: tensor for tensor in self.header.tensors}

    def of(self, tensor: Tensor) -> Importance | None:
        """None where it knows nothing of it. Raises BadInput where it is of another model."""
        if tensor.name not in self.names:
            return None
        sums, counts = (self._tensors.get(tensor.name + ending) for ending in (SUMS, COUNTS))
        matrices = tensor.count // (tensor.shape[0] * tensor.shape[1])
        if not sums or not counts or sums.count != tensor.shape[0] * matrices or counts.count not in (1, matrices):
            raise BadInput(
                f"{self.path.name} is not of this model.",
                why=f"Its {tensor.name} is of another shape.",
                do="Make one with `filbert imatrix`.",
            )
        return Importance(str(self.path), sums.offset, counts.offset, counts.count)

    def usage(self, tensor: Tensor) -> NDArray[np.float32] | None:
        """Means of squares, of shape (matrices, columns); 0 of a matrix that nothing was seen of. None where it knows
        nothing of the tensor. Raises as `of`."""
        if not (found := self.of(tensor)):
            return None
        row, matrix = tensor.shape[:2]
        matrices = tensor.count // (row * matrix)
        sums = np.fromfile(self.path, np.float32, row * matrices, offset=found.sums).reshape(matrices, row)
        counts = self._counts(tensor).reshape(-1, 1)
        return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)

    def gaps(self, tensors: Sequence[Tensor]) -> list[str]:
        """What it does not know of these tensors, a sentence each. Raises as `of`."""
        found = {tensor.name: self._counts(tensor) for tensor in tensors}
        told = []
        if unknown := [name for name, counts in found.items() if not len(counts)]:
            named = ", ".join(unknown[:SHOWN]) + (" and others" if len(unknown) > SHOWN else "")
            told.append(
                f"{self.path.name} knows nothing of {len(unknown)} of {len(found)} tensors, which are rounded as "
                f"without one: {named}."
            )
        experts = [counts for counts in found.values() if len(counts) > 1]
        if rare := sum(int((counts < FEW_TOKENS).sum()) for counts in experts):
            unseen = sum(int((counts == 0).sum()) for counts in experts)
            told.append(
                f"Of {sum(map(len, experts))} matrices of experts, {rare} saw less than {FEW_TOKENS} tokens of its "
                f"text, {unseen} of them none: a longer text tells more."
            )
        return told

    def _counts(self, tensor: Tensor) -> NDArray[np.float32]:
        """Tokens that each of its matrices has seen, one number where that is the same of all; empty where it knows
        nothing of it."""
        found = self.of(tensor)
        return np.fromfile(self.path, np.float32, found.n_counts if found else 0, offset=found.counts if found else 0)


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Raises BadModelFile for no GGUF file, BadInput for one of another kind."""
    header = read_header(path)
    if header.text("general.type") != "imatrix":
        raise BadInput(
            f"{path.name} is no importance matrix.",
            why="It does not say that it is one.",
            do="Make one with `filbert imatrix`.",
        )
    for tensor in header.tensors:
        if tensor.type != "F32":
            raise BadInput(
                f"{path.name} is damaged.", why=f"{tensor.name} is of type {tensor.type}.", do="Make it anew."
            )
        numbers = np.fromfile(path, np.float32, tensor.count, offset=tensor.offset)
        if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            raise BadInput(
                f"{path.name} is damaged.", why=f"{tensor.name} holds what is no sum of squares.", do="Make it anew."
            )
    return ImportanceMatrix(path, header)


def rescaled(importance: ImportanceMatrix, factors: Mapping[str, NDArray[np.float32]], target: Path) -> None:
    """Write the importance matrix of the same model with its columns multiplied. factors: by tensor, arrays of
    (matrices or 1, columns)."""
    data = bytearray(importance.path.read_bytes())
    for tensor in importance.header.tensors:
        if (found := factors.get(tensor.name.removesuffix(SUMS))) is not None and tensor.name.endswith(SUMS):
            sums = np.frombuffer(data, np.float32, tensor.count, tensor.offset).reshape(-1, found.shape[1])
            sums /= np.square(found)
    with write_whole(target) as file:
        file.write(data)


def conversations(model: Model, pairs: Sequence[Pair], name: str) -> Text:
    """Pairs as the model would see them in a chat, one after the other. Raises BadInput for a model that has no chat
    template."""
    shown = [chat_prompt(model, pair.messages) + pair.response for pair in pairs]
    return Text(name, "\n".join(shown), special=True)


def quantisables(headers: Sequence[Header]) -> list[Tensor]:
    """headers: of a model's files, in order."""
    found = (tensor for header in headers for tensor in header.tensors)
    return [tensor for tensor in found if quantisable(tensor, headers[0].architecture)]


def imatrix_job(
    plan: LoadPlan, texts: Sequence[Text], window: int, target: Path, *, kept_each_s: float = 20
) -> Job[ImportanceMatrix]:
    """Make one of the texts, in windows of so many tokens; what an earlier run of the same left unfinished goes on.
    kept_each_s: how much of it a kill may cost, in seconds. Raises BadInput for less than one window of text, DiskFull,
    StoreReadOnly, StoreBusy."""
    if window < LEAST_WINDOW:
        raise BadInput(f"A window of {window} tokens is too short.", do=f"Take {LEAST_WINDOW} or more.")
    names = [tensor.name for tensor in quantisables(plan.headers)]
    asked = [plan.stored.sha256, capi_layout.VERSION, window, [(each.text, each.special) for each in texts]]
    identity = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    part = target.with_name(f".{target.name}.part")
    with alone(target):
        yield from collected(
            plan,
            names,
            [(each.text, each.special) for each in texts],
            window,
            [each.name for each in texts],
            identity,
            part,
            plan.scorer_limit(),
            kept_each_s,
        )
        move_whole(part, target)
    return read_imatrix(target)
