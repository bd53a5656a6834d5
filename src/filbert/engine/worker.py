"""A loaded model in a process of its own: start it, find its socket, end it."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filbert.core import paths
from filbert.core.errors import (
    BadModelFile,
    EngineCrashed,
    EngineError,
    EngineMissing,
    EngineStalled,
    FilbertError,
)
from filbert.core.machine import unsupported_by_engine
from filbert.engine.child import Child, load_wait_s
from filbert.engine.threads import Runtime
from filbert.engine.transport import WorkerSocket

Pooling = Literal["", "none", "mean", "cls", "last", "rank", "unspecified"]


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker is told: everything is decided, nothing is left to the engine's defaults."""

    name: str
    model: str
    projector: str
    adapters: tuple[str, ...]
    n_ctx: int
    n_batch: int
    n_parallel: int
    kv: str
    threads: int
    openmp: Runtime
    n_gpu_layers: int
    cache_ram_mib: int
    speculation: bool
    memory_limit: int  # bytes it may allocate besides mapped files
    size_bytes: int
    pooling: Pooling = ""
    stall_s: float = 120


class Worker:
    """Starts at once; `transport()` waits until the model is loaded."""

    def __init__(self, plan: WorkerPlan) -> None:
        if reason := unsupported_by_engine():
            raise EngineMissing(reason, do="Use `filbert` against a server on another machine.")
        self.plan = plan
        self._folder = paths.new_runtime_folder()
        self._secret = secrets.token_hex(16)
        has_unix_sockets = os.name == "posix"
        self._child = Child(
            "worker_main.py",
            {
                **{name: getattr(plan, name) for name in plan.__slots__},
                "n_ubatch": plan.n_batch,
                "embedding": plan.pooling != "",
                "socket": str(self._folder / "x.sock") if has_unix_sockets else "",
                "secret": self._secret,
                "folder": str(self._folder),
            },
        )
        self._transport: WorkerSocket | None = None
        self._loading = threading.Lock()
        self._end = weakref.finalize(self, _end, self._child, self._folder)  # also when its model is forgotten unclosed

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

    def serves(self, socket: WorkerSocket) -> bool:
        return self._transport is socket

    def _address(self) -> str:
        try:
            answer = self._child.hear(load_wait_s(self.plan.size_bytes, self.plan.stall_s))
        except EngineStalled:
            self.kill()
            raise
        except EngineCrashed as exc:
            self.stop()
            raise self._not_loaded(self._child.complaint or str(exc)) from exc
        if "error" not in answer:
            return str(answer["address"])
        self.stop()
        if "Failed to init server" in answer["error"]:
            raise self._not_loaded(self._child.complaint)
        raise EngineMissing(
            "The engine does not start.", why=f"{answer['error']}.", do="`filbert doctor` says what is missing."
        )

    def _not_loaded(self, why: str) -> FilbertError:
        if why.startswith("OMP:"):
            return EngineError("The engine could not start its threads.", why=why, do="Take fewer --threads.")
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


def _end(child: Child, folder: Path) -> None:
    if not child.is_ours:
        return
    child.stop()
    shutil.rmtree(folder, ignore_errors=True)
