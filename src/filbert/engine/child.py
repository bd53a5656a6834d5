"""A process that holds native code, so that the caller's never does.

The child's standard input is its lifeline: when the caller dies, however it dies, the pipe closes and the child ends.
Its standard output carries one JSON document a line, and nothing else; what native code prints goes to standard error,
whose last lines are kept to say why a child died.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filbert.core.errors import (
    BadInput,
    BadModelFile,
    ContextOverflow,
    DiskFull,
    EngineCrashed,
    EngineError,
    EngineMismatch,
    EngineMissing,
    EngineStalled,
    StoreReadOnly,
)
from filbert.core.log import log
from filbert.engine.threads import environment

SLOWEST_DISK = 20e6  # bytes a second
SLOWEST_TOKENIZER = 1e6  # the same
CONFIG_S = 60.0  # for a child to read what it is to load; a pipe holds all of it
GRACE_S = 3.0  # from asking a child to end until it is killed
OF_THE_LOG = re.compile(r"\d+\.\d\d\.\d{3}\.\d{3} ")  # how a line of the engine's own log begins
TOLD = {
    kind.code: kind
    for kind in (
        *(BadInput, BadModelFile, ContextOverflow, DiskFull),
        *(EngineError, EngineMismatch, EngineMissing, StoreReadOnly),
    )
}
_alive: weakref.WeakSet[Child] = weakref.WeakSet()


def load_wait_s(size_bytes: int, stall_s: float) -> float:
    """How long a child may take to load a model: as long as reading it can take, and the wait that any request gets."""
    return stall_s + size_bytes / SLOWEST_DISK


def answer(said: Mapping[str, Any]) -> Any:
    """What a child answered. Raises what it told instead: an error of ours, or OSError of a file."""
    if error := said.get("error"):
        if "errno" in error:
            raise OSError(error["errno"], os.strerror(error["errno"]), error["file"])
        raise TOLD[error["code"]](error["what"], why=error["why"], do=error["do"])
    return said["answer"]


class Child:
    """A running script of this folder: `worker_main.py`, `scorer_main.py`, …; or one elsewhere, by its path. inherited:
    the environment it gets, but for what the engine needs."""

    def __init__(
        self, script: str | Path, config: Mapping[str, Any], inherited: Mapping[str, str] = os.environ
    ) -> None:
        self.name = Path(script).name.removesuffix("_main.py")
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).parent / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**inherited, **environment(config["threads"], config["openmp"])},
            start_new_session=True,  # Ctrl-C in the terminal stops the answer, not the engine; so on Windows:
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._last_words: deque[str] = deque(maxlen=60)
        self._hearing, self._overhearing = (
            threading.Thread(target=pump, name=f"filbert-{self.name}-{pump.__name__}", daemon=True)
            for pump in (self._pump_output, self._pump_errors)
        )
        self._hearing.start()
        self._overhearing.start()
        _alive.add(self)
        self.tell(config, CONFIG_S)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_ours(self) -> bool:
        """False in a process that was forked from the one that started the child."""
        return self._owner == os.getpid()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def tell(self, message: Mapping[str, Any], wait_s: float) -> None:
        """Send one document. Raises EngineCrashed when the child is gone, EngineStalled when it has not read it after
        `wait_s` seconds, which ends it: nothing else frees whoever writes to a full pipe."""
        stdin = self._process.stdin
        assert stdin is not None
        deadline = time.monotonic() + wait_s
        patience = threading.Timer(wait_s, self.kill)
        patience.daemon = True
        patience.start()
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except (OSError, ValueError) as exc:
            raise (self._silent(wait_s) if time.monotonic() >= deadline else self.crashed()) from exc
        finally:
            patience.cancel()

    def hear(self, wait_s: float) -> dict[str, Any]:
        """The child's next document. Raises EngineCrashed when it died, EngineStalled after `wait_s` seconds."""
        try:
            message = self._said.get(timeout=wait_s)
        except queue.Empty as exc:
            raise self._silent(wait_s) from exc
        if message is None:
            self._said.put(None)  # for whoever asks next
            raise self.crashed()
        return message

    def _silent(self, wait_s: float) -> EngineStalled:
        return EngineStalled(
            f"The {self.name} did not answer within {wait_s:.0f} s.", do="Close other programs and try again."
        )

    def crashed(self) -> EngineCrashed:
        """An error that says how the child ended."""
        try:
            status = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            status = 0
        words = " ".join(self._words()[-3:])
        return EngineCrashed(
            f"The {self.name} ended ({_how(status)}).", why=words, do="`filbert doctor` checks the engine."
        )

    def _words(self) -> list[str]:
        """The last lines of standard error; all of them once the child is gone."""
        if not self.running:
            self._overhearing.join(GRACE_S)
        return list(self._last_words)

    @property
    def complaint(self) -> str:
        """The engine's own: the first of its last words that names an error, without its function names; or ""."""
        for line in self._words():
            if any(word in line.lower() for word in ("error", "assert", "unknown", "failed")):
                return line.split("error loading model: ")[-1][-200:].rstrip(".") + "."
        return ""

    def stop(self) -> None:
        """End the child: ask, then kill. Safe to call twice and from any thread."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()

    def _pump_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout, contextlib.suppress(ValueError):  # half a line, when it is killed
            for line in stdout:
                self._said.put(json.loads(line))
        self._said.put(None)

    def _pump_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for text in _without_grammars(stderr):
                self._last_words.append(text)
                log.debug("%s %d: %s", self.name, self.pid, text)


def _without_grammars(lines: Iterable[bytes]) -> Iterator[str]:
    """What is told, but the grammars that could not be read: the engine repeats them, and they are a client's words."""
    is_grammar = False
    for line in lines:
        text = line.decode(errors="replace").rstrip()
        is_grammar = "error parsing grammar" in text or (is_grammar and not OF_THE_LOG.match(text))
        if text and not is_grammar:
            yield text


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


@atexit.register
def _stop_all() -> None:
    for child in list(_alive):
        if child.is_ours:
            child.stop()
