"""A loaded model in a process of its own: start it, find its socket, end it."""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filbert.core.errors import (
    BadInput,
    BadModelFile,
    EngineCrashed,
    EngineError,
    EngineMissing,
    EngineStalled,
    FilbertError,
)
from filbert.core.machine import unsupported_by_engine
from filbert.core.runtime_folder import RuntimeFolder
from filbert.engine.child import Child, load_wait_s
from filbert.engine.threads import Runtime
from filbert.engine.transport import WorkerSocket

Pooling = Literal["", "mean", "rank", "unspecified"]


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker is told: everything is decided, nothing is left to the engine's defaults."""

    name: str
    model: str
    projector: str
    adapters: tuple[str, ...]
    chat_template: str  # "" takes the file's
    n_ctx: int
    n_batch: int
    n_parallel: int
    kv: str
    threads: int
    openmp: Runtime
    image_tokens: int
    device: str  # "auto", "cpu", or the engine's name of one
    n_gpu_layers: int
    cache_ram_mib: int
    apart: bool  # its slots belong to several owners, and each request says whether it may build upon what one holds
    speculation: bool
    memory_limit: int  # bytes it may allocate besides mapped files
    size_bytes: int
    pooling: Pooling  # "" makes no vectors, "unspecified" leaves it to the file
    stall_s: float


class Worker:
    """Starts at once; `transport()` waits until the model is loaded."""

    def __init__(self, plan: WorkerPlan) -> None:
        if reason := unsupported_by_engine():
            raise EngineMissing(reason, do="Use another machine.")
        self.plan = plan
        self._secret = secrets.token_hex(16)
        self._folder = RuntimeFolder()
        try:
            self._child = Child("worker_main.py", self._config())
        except BaseException:
            self._folder.remove()
            raise
        self._transport: WorkerSocket | None = None
        self._loading = threading.Lock()
        self._end = weakref.finalize(self, _end, self._child, self._folder)  # also when its model is forgotten unclosed

    def _config(self) -> dict[str, Any]:
        has_unix_sockets = os.name == "posix"
        return {
            **{name: getattr(self.plan, name) for name in self.plan.__slots__},
            "n_ubatch": self.plan.n_batch,
            "embedding": self.plan.pooling != "",
            "socket": str(self._folder.path / "x.sock") if has_unix_sockets else "",
            "secret": self._secret,
            "folder": str(self._folder.path),
        }

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def is_ours(self) -> bool:
        return self._child.is_ours

    @property
    def pid(self) -> int:
        return self._child.pid

    def transport(self) -> WorkerSocket:
        """Raises BadModelFile when the engine cannot load the file, EngineMissing when there is no engine."""
        with self._loading:
            if self._transport is None:
                self._transport = WorkerSocket(self._address(), self._secret, self.plan.stall_s)
            return self._transport

    @property
    def loaded(self) -> WorkerSocket | None:
        """As `transport()`, without waiting; None while the model loads."""
        return self._transport

    def serves(self, socket: WorkerSocket) -> bool:
        return self._transport is socket

    def _address(self) -> str:
        try:
            answer = self._child.hear(load_wait_s(self.plan.size_bytes, self.plan.stall_s))
        except EngineStalled as exc:
            self.kill()
            raise EngineStalled(
                exc.what, do="Close other programs, or raise FILBERT_LOAD_STALL_S if the machine is slow."
            ) from exc
        except EngineCrashed as exc:
            self.stop()
            raise self._not_loaded(self._child.complaint or str(exc)) from exc
        if "address" in answer:
            return str(answer["address"])
        self.stop()
        if "devices" in answer:
            raise BadInput(
                f"There is no device {self.plan.device}.",
                do=f"The engine knows {answer['devices']}: choose one of them.",
            )
        if "Failed to init server" in answer["error"]:
            raise self._not_loaded(self._child.complaint)
        raise EngineMissing(
            "The engine does not start.", why=f"{answer['error']}.", do="`filbert doctor` says what is missing."
        )

    def _not_loaded(self, why: str) -> FilbertError:
        if why.startswith("OMP:"):
            return EngineError("The engine could not start its threads.", why=why, do="Take fewer --threads.")
        if self.plan.chat_template and "template" in why:
            return BadInput("The engine cannot use the chat template.", why=why, do="Mend it, or leave it out.")
        name = Path(self.plan.model).name
        return BadModelFile(f"The engine could not load {name}.", why=why, do="Pull it again, or try another file.")

    def crashed(self) -> EngineCrashed:
        return self._child.crashed()

    def stop(self) -> None:
        self._end()

    def kill(self) -> None:
        if self.is_ours:
            self._child.kill()
        self._end()


def _end(child: Child, folder: RuntimeFolder) -> None:
    if not child.is_ours:
        return
    child.stop()
    folder.remove()
