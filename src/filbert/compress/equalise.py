"""The same model with other numbers in it, which round better: its columns are scaled as `symmetry.py` allows.

Of a column, c is the root mean square of its weights and a how much it is used, by the importance matrix. Rounding errs
by a share of the largest weight in a block of columns, and an error costs as much as its column is used; if the largest
is the p-norm of a block, the sum of what errors cost is least where c² is scaled to (a c²)^(2 / (p + 2)). So the factor
of a column is (a c²)^e / c, where e is 0 for columns of one size, and larger the more those that are used much are to
be spared; which e is best is measured in the engine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from filbert.compress.imatrix import ImportanceMatrix, read_imatrix, rescaled
from filbert.compress.plan import Source, plan
from filbert.compress.prepare import Asked, importance_job
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import FULL, quantisable, stock
from filbert.compress.refine import is_better, unseen
from filbert.compress.symmetry import Symmetry, symmetries
from filbert.core.errors import BadModelFile
from filbert.core.files import alone, make_folder, need_room, write_whole
from filbert.core.jobs import Job, Progress
from filbert.engine.load_plan import LoadPlan
from filbert.models.gguf import read_header
from filbert.models.gguf_write import header_bytes, padded, placed, size_of
from filbert.models.header import Tensor
from filbert.models.store import in_place

EXPONENTS = (0.0, 0.05, 0.1, 0.15)
JUDGED = "Q4_K_M"  # the mix that exponents are compared in
SAME = 0.01  # nats a token at most, between a model and itself re-scaled: its values are rounded, too
NEAR = 1.0  # standard errors
MOST_FACTOR = 64.0
LEAST_SHARE = 1e-3  # of the mean: columns and uses below count as that
CHUNK = 1 << 22  # weights
STORED = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Equalised:
    """A model re-scaled, and the importance matrix that it has then. Its file is as large as the model, and soon made
    again: it is gone when this is closed, and nobody else has it until then."""

    source: Source
    importance: ImportanceMatrix
    held: ExitStack

    def close(self) -> None:
        self.source.stored.path.unlink(missing_ok=True)
        self.held.close()


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a tensor, from the number `first` of one of its matrices on."""

    matrix: int
    first: int
    rows: Floats


@dataclass(frozen=True, slots=True)
class Columns:
    """Of a symmetry's columns, arrays of (experts or 1, columns): the mean squares of their weights, each matrix by its
    own mean, and how much they are used."""

    symmetry: Symmetry
    squares: Floats
    used: Floats

    def factors(self, exponent: float) -> Floats:
        found = (self.used * self.squares) ** exponent / np.sqrt(self.squares)
        found /= np.exp(np.log(found).mean(1, keepdims=True))
        return np.clip(found, 1 / MOST_FACTOR, MOST_FACTOR).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Factors:
    """By the names of tensors: what columns are multiplied with, and rows divided by; arrays of (experts or 1, n)."""

    columns: Mapping[str, Floats]
    rows: Mapping[str, Floats]

    def applied(self, tensor: Tensor, part: Part) -> Floats:
        rows, last = part.rows, part.first + len(part.rows)
        if (of_columns := self.columns.get(tensor.name)) is not None:
            rows = rows * of_columns[part.matrix % len(of_columns)]
        if (of_rows := self.rows.get(tensor.name)) is None:
            return rows
        if len(tensor.shape) == 1 or tensor.name.endswith(".bias"):
            return rows / of_rows[part.first : last]
        return rows / of_rows[part.matrix % len(of_rows), part.first : last, None]


def equalised_job(asked: Asked) -> Job[Equalised | None]:
    """The model re-scaled with the exponent that is best in the engine, beside its importance matrix; None where the
    model has no symmetries, or is best as it is. What was found is kept; the rest is for the caller to close. Raises
    StoreBusy where another process has it; as `importance_job`, `Divergence` and `quantise_job` do."""
    source = asked.source
    compressed = any(tensor.type not in FULL for tensor, _ in source.tensors.values())
    if compressed or source.headers[0].kind != "language" or not symmetries(source.headers):
        return None
    importance = asked.importance or (yield from importance_job(asked))
    story = asked.named("equalised", importance.sha256, EXPONENTS, JUDGED).with_suffix(".json")
    target = story.with_suffix(".gguf")
    make_folder(target.parent)
    with ExitStack() as held:
        held.enter_context(alone(target))
        columns = [] if target.exists() else (yield from _columns(source, importance))
        losses = yield from _losses(asked, importance, columns, story)
        exponent = chosen(losses)
        if exponent is None:
            return None
        if not target.exists():
            yield from write_job(source, importance, factors_of(columns, exponent), target)
        return Equalised(*_written(source, target, exponent, importance), held.pop_all())


def _written(
    source: Source, file: Path, exponent: float, importance: ImportanceMatrix
) -> tuple[Source, ImportanceMatrix]:
    """What `write_job` wrote."""
    matrix = replace(read_imatrix(_matrix_of(file)), made_of=importance.sha256)
    return Source(in_place(file), [read_header(file)], source.stored, exponent), matrix


def _losses(
    asked: Asked, importance: ImportanceMatrix, columns: Sequence[Columns], story: Path
) -> Job[dict[float | None, list[float]]]:
    """By exponents, and of the model as it is under None: KL divergence of each window, nats a token. The former are
    not there, and the latter is empty, where the engine finds the re-scaled model to be another one. story: what was
    measured, of which nothing is measured again."""
    found: dict[float | None, list[float]] = dict(json.loads(story.read_text("utf-8")) if story.exists() else [])
    exponents = [None, *EXPONENTS]
    if len(found) == len(exponents) or (None in found and not found[None]):
        return found
    source, full = asked.source, asked.full
    folder = story.with_suffix(".work")
    folder.mkdir(exist_ok=True)
    with unseen(full, asked.texts, folder / "logits") as divergence:
        whole, rounded = folder / "whole.gguf", folder / "rounded.gguf"

        def measured(file: Path) -> Job[list[float]]:
            return list(map(float, (yield from divergence.means_of(LoadPlan(in_place(file), full.options)))))

        for number, exponent in enumerate(exponents):
            if exponent in found:
                continue
            yield Progress("re-scalings", number, len(exponents), "files")
            of, matrix = source, importance
            if exponent is not None:
                yield from write_job(source, importance, factors_of(columns, exponent), whole)
                if number == 1 and not np.mean((yield from measured(whole))) <= SAME:
                    found = {None: []}
                    _keep(found, story)
                    break
                of, matrix = _written(source, whole, exponent, importance)
            yield from quantise_job(plan(of, stock(JUDGED), matrix), rounded, threads=full.threads)
            found[exponent] = yield from measured(rounded)
            _keep(found, story)
    shutil.rmtree(folder)
    return found


def _keep(found: Mapping[float | None, Sequence[float]], story: Path) -> None:
    with write_whole(story) as file:
        file.write(json.dumps(list(found.items())).encode())


def chosen(losses: Mapping[float | None, Sequence[float]]) -> float | None:
    """The smallest, which trusts the text of the importance matrix least, of those within a standard error of the best,
    window by window; None where that is no better than the model as it is by more than chance."""
    found = {exponent: np.array(loss) for exponent, loss in losses.items()}
    best = min(found.values(), key=np.sum)
    near = [exponent for exponent in EXPONENTS if exponent in found and not is_better(best, found[exponent], NEAR)]
    return near[0] if near and is_better(found[near[0]], found[None]) else None


def factors_of(columns: Sequence[Columns], exponent: float) -> Factors:
    multiplied: dict[str, Floats] = {}
    divided: dict[str, Floats] = {}
    for each in columns:
        factors = each.factors(exponent)
        divided.update(dict.fromkeys(each.symmetry.rows, factors))
        queries, values = each.symmetry.heads
        of_queries = np.repeat(factors.reshape(len(factors), values, -1), queries // values, 1)
        multiplied.update(dict.fromkeys(each.symmetry.columns, of_queries.reshape(len(factors), -1)))
    return Factors(multiplied, divided)


def _columns(source: Source, importance: ImportanceMatrix) -> Job[list[Columns]]:
    found = []
    all_of_them = symmetries(source.headers)
    for number, symmetry in enumerate(all_of_them):
        yield Progress("columns", number, len(all_of_them), "symmetries")
        rounded = [
            source.tensors[name]
            for name in symmetry.columns
            if quantisable(source.tensors[name][0], source.headers[0].architecture)
        ]
        squares = [_squares(tensor, file) for tensor, file in rounded]
        squares = [each / each.mean() for each in squares if each.mean() > 0]
        used = [usage for tensor, _ in rounded if (usage := importance.usage(tensor)) is not None]
        if not squares or not used or not all(np.isfinite(each).all() for each in (*squares, *used)):
            continue  # what is no number, the quantiser tells
        has_own = bool(source.tensors[symmetry.rows[0]][0].shape[2:])  # each expert its factors
        found.append(Columns(symmetry, *(_pooled(each, symmetry, has_own) for each in (squares, used))))
    return found


def _pooled(several: Sequence[Floats], symmetry: Symmetry, has_own: bool) -> Floats:
    """Of the matrices whose columns have one factor, and of the columns that read one value, the mean."""
    found = np.mean([each if has_own else each.mean(0, keepdims=True) for each in several], 0)
    queries, values = symmetry.heads
    found = found.reshape(len(found), values, queries // values, -1).mean(2).reshape(len(found), -1)
    pooled: Floats = np.maximum(found, LEAST_SHARE * found.mean())
    return pooled


def _squares(tensor: Tensor, file: Path) -> Floats:
    """The mean squares of columns: (experts or 1, columns)."""
    row, matrix = tensor.shape[:2]
    sums = np.zeros((tensor.count // (row * matrix), row))
    for part in _parts(tensor, file):
        sums[part.matrix] += np.square(part.rows, dtype=np.float64).sum(0)
    return (sums / matrix).astype(np.float32)


def _parts(tensor: Tensor, file: Path) -> Iterator[Part]:
    """All rows, some at a time."""
    row, matrix, *_ = (*tensor.shape, 1)
    if tensor.offset + tensor.size_bytes > file.stat().st_size:
        raise BadModelFile(f"{file.name} ends within {tensor.name}.", do="Get the file again.")
    stored = np.memmap(file, STORED[tensor.type], "r", tensor.offset, (tensor.count // (row * matrix), matrix, row))
    step = max(1, CHUNK // row)
    for number, rows in enumerate(stored):
        for first in range(0, matrix, step):
            some = rows[first : first + step]
            wide = (some.astype(np.uint32) << 16).view(np.float32) if tensor.type == "BF16" else some.astype(np.float32)
            yield Part(number, first, wide)


def write_job(source: Source, importance: ImportanceMatrix, factors: Factors, target: Path) -> Job[None]:
    """The model with these factors in it, and beside it the importance matrix that it has then. Matrices in BF16 become
    F16, which takes as much and rounds eight times finer."""
    touched = factors.columns.keys() | factors.rows.keys()
    types = {
        name: "F16" if name in touched and tensor.type == "BF16" else tensor.type
        for name, (tensor, _) in source.tensors.items()
    }
    places = placed((name, tensor.shape, types[name]) for name, (tensor, _) in source.tensors.items())
    need_room(target.parent, sum(padded(place.size_bytes) for place in places))
    rescaled(importance, factors.columns, _matrix_of(target))
    with write_whole(target) as file:
        file.write(header_bytes(source.headers[0], {}, places))
        for number, (tensor, path) in enumerate(source.tensors.values()):
            yield Progress("re-scaling", number, len(places), "tensors")
            for data in _data(tensor, path, factors if tensor.name in touched else None, types[tensor.name]):
                file.write(data)
            size_bytes = size_of(tensor.shape, types[tensor.name])
            file.write(bytes(padded(size_bytes) - size_bytes))


def _data(tensor: Tensor, path: Path, factors: Factors | None, kind: str) -> Iterator[memoryview]:
    if factors:
        yield from (factors.applied(tensor, part).astype(STORED[kind]).data for part in _parts(tensor, path))
        return
    stored = np.memmap(path, np.uint8, "r", tensor.offset, (tensor.size_bytes,))
    yield from (stored[at : at + CHUNK].data for at in range(0, tensor.size_bytes, CHUNK))


def _matrix_of(file: Path) -> Path:
    return file.with_suffix(".imatrix.gguf")
