"""`filbert` as people run it: a process of its own, on pipes or on a terminal."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
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


PRESSED_AGAIN_S = 5


class PseudoTerminal:
    """A program on a real pseudo-terminal: what is typed reaches it as from a keyboard, Ctrl-C included."""

    def __init__(self, *command: str, columns: int = 0, rows: int = 0, **environment: str) -> None:
        """columns, rows: 0 where the terminal does not tell its size."""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in pieces
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, **environment},
        )
        os.close(theirs)

    def take(self, text: str) -> None:
        """What the program wrote."""
        raise NotImplementedError

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait(self, within_s: float = 60, pressing: str = "") -> int:
        """The exit status; what is printed until then is taken. pressing: a key that is pressed every few seconds, for
        Ctrl-C is lost where it comes between Python's prompt and the read behind it."""
        pressed = time.monotonic()
        while self.read():
            if pressing and time.monotonic() > pressed + PRESSED_AGAIN_S:
                self.type(pressing)
                pressed = time.monotonic()
        return self.process.wait(within_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def read(self) -> bool:
        """Take what is there; whether there may be more."""
        if not select.select([self._ours], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            self.take(self._decoder.decode(os.read(self._ours, 65536)))
        except OSError:  # the other end is closed
            return False
        return True


class Terminal(PseudoTerminal):
    """A terminal that knows no more than lines; `seen` is what was printed and not waited for yet."""

    def __init__(self, *command: str) -> None:
        self.seen = ""
        super().__init__(*command, TERM="dumb")

    def take(self, text: str) -> None:
        self.seen += text.replace("\r\n", "\n")

    def wait_for(self, text: str, within_s: float = 60) -> str:
        """All that was printed up to `text`; the next call looks behind it."""
        until = time.monotonic() + within_s
        while text not in self.seen:
            assert time.monotonic() < until, f"no {text!r} in {self.seen!r}"
            if not self.read():
                raise AssertionError(f"ended without {text!r}: {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before + text
