"""The log: one rotating file. Doors switch it on; a library user keeps their own logging."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler

from filbert.core import paths

ROOT = "filbert"
log = logging.getLogger(ROOT)
log.addHandler(logging.NullHandler())


def to_file(level: str) -> None:
    """Write to the rotating log file (5 files of 1 MB). A store that cannot be written has no log, and works."""
    path = paths.log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=1_000_000, backupCount=4, encoding="utf-8", delay=True)
        handler.acquire()
        handler.release()
        path.touch()
    except OSError:
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
