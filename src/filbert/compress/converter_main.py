"""The converter's child: runs one of llama.cpp's own scripts as if it were typed, and tells how far it is.

Told once {"script": …, "arguments": …, "out": …}; says {"tensors": …} for each tensor that it has read and
{"bytes": …} every second of the file that it writes, then {"answer": …}, or {"failed": …} with what the script said
last, and {"errno": …} where the disk was the reason.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import runpy
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filbert.engine.lifeline import end_with_parent, heard, open_lifeline

Say = Callable[[dict[str, Any]], None]
TENSOR = re.compile(r"\S+, +\S+ --> \w+, shape")
NO_ROOM = re.compile(r"\d+ requested and \d+ written")  # how numpy says it


class Told(logging.Handler):
    """What the script logs: tensors are counted, of errors the last is kept."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.error = ""
        self._tensors, self._say = 0, say

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        sys.stderr.write(f"{text}\n")
        if TENSOR.match(text):
            self._tensors += 1
            self._say({"tensors": self._tensors})
        elif record.levelno >= logging.ERROR:
            self.error = self.error or text


def main() -> None:
    say = open_lifeline()
    config = next(heard())
    end_with_parent()
    told = Told(say)
    logging.basicConfig(level=logging.INFO, handlers=[told])  # before the script's own, which then changes nothing
    threading.Thread(target=_watch, args=(Path(config["out"]), say), daemon=True).start()
    script = Path(config["script"])
    sys.argv = [str(script), *config["arguments"]]
    sys.path.insert(0, str(script.parent))  # as Python has it of a script: there it looks for its own modules
    try:
        runpy.run_path(str(script), run_name="__main__")
        say({"answer": {}})
    except SystemExit as exc:
        say({"failed": told.error or f"exit status {exc.code}"})
    except OSError as exc:
        say({"failed": str(exc), "errno": errno.ENOSPC if NO_ROOM.match(str(exc)) else exc.errno})
    except Exception as exc:  # noqa: BLE001 what a script may raise is told, whatever it is
        say({"failed": f"{type(exc).__name__}: {exc}"})
    os._exit(0)


def _watch(out: Path, say: Say) -> None:
    while True:
        time.sleep(1)
        say({"bytes": out.stat().st_size if out.exists() else 0})


if __name__ == "__main__":
    main()
