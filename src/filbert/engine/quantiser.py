"""A quantiser seen from the caller: a child that turns the rows of a tensor into another type, file to file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from filbert.core.errors import EngineMissing
from filbert.core.jobs import Job, Progress
from filbert.core.machine import cores, unsupported_by_engine
from filbert.engine.child import Child, answer
from filbert.engine.threads import Runtime
from filbert.models.header import Tensor

STEP = "quantise"
START_S = 60.0
MEMORY_LIMIT = 256 << 20  # bytes: the engine, Python, and a part of a tensor in each of its forms


@dataclass(frozen=True, slots=True)
class Importance:
    """Where an importance matrix keeps the sums of a tensor's columns, and of how many tokens they are: offsets in
    bytes. n_counts: 1, or one a matrix."""

    path: str
    sums: int
    counts: int
    n_counts: int


@dataclass(frozen=True, slots=True)
class Rounding:
    """A tensor, and the type that is to be made of it. source: the file that holds it."""

    tensor: Tensor
    source: Path
    to: str
    importance: Importance | None

    def to_json(self) -> dict[str, Any]:
        row, *others = self.tensor.shape
        return {
            "name": self.tensor.name,
            "row": row,
            "n_rows": self.tensor.count // row,
            "matrix": others[0],
            "source": (str(self.source), self.tensor.offset),
            "type": self.tensor.type,
            "to": self.to,
            "importance": asdict(self.importance) if self.importance else None,
        }


class Quantiser:
    """Use it in a `with`; the child ends with it, and starts beside whatever else is done before it is needed."""

    def __init__(self, *, threads: int | None = None, openmp: Runtime = "bundled", stall_s: float = 120) -> None:
        """Raises EngineMissing; its methods raise EngineMismatch, too."""
        if reason := unsupported_by_engine():
            raise EngineMissing(reason, do="Compress on another machine.")
        config = {"threads": threads or cores(), "openmp": openmp, "memory_limit": MEMORY_LIMIT}
        self._child = Child("quantiser_main.py", config)
        self._stall_s, self._is_ready = stall_s, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.kill()

    def ask(self, asked: Rounding, target: Path, offset: int) -> None:
        """Have it written into the target, from that byte on, after all that was asked before; `written` waits for it,
        in the same order. To ask for the next meanwhile keeps the child busy."""
        self._tell({"task": asked.to_json(), "target": (str(target), offset)})

    def written(self, asked: Rounding, done: int, total: int) -> Job[None]:
        """done, total: weights of all tensors, for the progress. Raises BadInput for weights that are no numbers,
        OSError where the target cannot be written."""
        while "rows" in (said := self._child.hear(self._stall_s)):
            yield Progress(STEP, done + said["rows"] * asked.tensor.shape[0], total, "weights")
        answer(said)

    def errors(self, tensor: Rounding, types: Sequence[str]) -> dict[str, float]:
        """How far each type is from the tensor: the squares of what the rounding errs by, as a share of those of the
        weights; of each column times how much it is used. Raises BadInput for weights that are no numbers."""
        self._tell({"task": tensor.to_json(), "types": list(types)})
        while "rows" in (said := self._child.hear(self._stall_s)):
            pass
        return dict(answer(said))

    def _tell(self, question: dict[str, Any]) -> None:
        if not self._is_ready:
            answer(self._child.hear(START_S))
            self._is_ready = True
        self._child.tell(question, self._stall_s)
