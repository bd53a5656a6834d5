"""The log: one rotating file. Doors switch it on; a library user keeps their own logging."""

from __future__ import annotations

import logging
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path

from filbert.core import paths

ROOT = "filbert"
FILES, FILE_BYTES = 5, 1_000_000
log = logging.getLogger(ROOT)
log.addHandler(logging.NullHandler())


def to_file(level: str) -> None:
    """Write to the rotating log file. A store that cannot be written has no log, and works. Two writers of one file
    would each rotate it, so the second call changes nothing but the level."""
    path = paths.log_file()
    if any(isinstance(handler, _LogFile) and Path(handler.baseFilename) == path for handler in log.handlers):
        log.setLevel(level)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        handler = _LogFile(path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8", delay=True)
    except OSError:
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False


class _LogFile(RotatingFileHandler):
    def handleError(self, record: LogRecord) -> None:
        """A disk that fills up costs lines of the log, not a traceback on the terminal for each."""
