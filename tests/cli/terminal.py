"""`filbert` as people run it: a process of its own, on pipes or on a terminal."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

FILBERT = str(Path(sys.executable).with_name("filbert"))
Run = Callable[..., subprocess.CompletedProcess[str]]


def run_filbert(*arguments: str | bytes, input: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [FILBERT, *arguments], input=input, capture_output=True, env={**os.environ, **environment}, timeout=200
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class Terminal:
    """A program on a real pseudo-terminal: what is typed reaches it as from a keyboard, Ctrl-C included."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(theirs)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in pieces
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, within_s: float = 60) -> str:
        """All that was printed up to `text`; the next call looks behind it."""
        until = time.monotonic() + within_s
        while text not in self.seen:
            assert time.monotonic() < until, f"no {text!r} in {self.seen!r}"
            if not self._read():
                raise AssertionError(f"ended without {text!r}: {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def wait(self, within_s: float = 60) -> int:
        """The exit status; what is printed until then is in `seen`."""
        while self._read():
            pass
        return self.process.wait(within_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.2)[0]:
            return self.process.poll() is None
        try:
            self.seen += self._decoder.decode(os.read(self._ours, 65536)).replace("\r\n", "\n")
        except OSError:  # the other end is closed
            return False
        return True
