"""The way in. `--version` imports nothing."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if sys.argv[1:] in (["--version"], ["-V"], ["version"]):
        from filbert.version import __version__

        sys.stdout.write(f"filbert {__version__}\n")
        return
    sys.exit(run())


def run() -> int:
    """Exit status: 0 done, 2 input, 3 offline, 4 download, 5 disk or store, 6 model file, 7 engine, 70 our own fault,
    130 stopped, 141 nobody reads."""
    from filbert.core.errors import Cancelled, FilbertError

    try:
        _ready_streams()
        from filbert.cli.app import app
        from filbert.cli.completion import asked_by_bash, complete_for_bash

        if asked_by_bash():
            complete_for_bash(app)
        else:
            app()
    except Cancelled as exc:
        return _failed(str(exc), exc.exit_status)
    except FilbertError as exc:
        return _failed(f"error: {exc}", exc.exit_status)
    except KeyboardInterrupt:
        return _failed("Stopped.", Cancelled.exit_status)
    except SystemExit as exc:
        return int(exc.code or 0)
    except Exception as exc:  # noqa: BLE001 - the last door: a person gets a sentence, the log gets the rest
        from filbert.core.log import log

        log.exception("fault")
        return _failed(
            f"error: Filbert hit a fault of its own ({type(exc).__name__}: {exc}). `--debug` shows where.", 70
        )
    return 0


def _ready_streams() -> None:
    """Somewhere to write, whatever the caller closed; an old code page gets "?" for an emoji."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _failed(sentence: str, status: int) -> int:
    from filbert.cli.console import without_controls

    if _wants_traceback():
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"{without_controls(sentence, sys.stderr)}\n")
    return status


def _wants_traceback() -> bool:
    from filbert.core.settings import Settings, forgiving

    return "--debug" in sys.argv or forgiving(Settings).debug  # what is wrong there may be the error that is told
