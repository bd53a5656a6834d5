"""The way in. `--version` imports nothing."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if sys.argv[1:] in (["--version"], ["-V"]):
        from filbert.version import __version__

        sys.stdout.write(f"filbert {__version__}\n")
        return
    sys.exit(run())


def run() -> int:
    """Exit status: 0 done, 2 input, 3 offline, 4 download, 5 disk, 6 model file, 7 engine, 130 stopped, 70 our fault."""
    from filbert.core.errors import FilbertError

    try:
        from filbert.cli.app import app

        app()
    except FilbertError as exc:
        return _failed(f"error: {exc}", exc.exit_status)
    except SystemExit as exc:
        return int(exc.code or 0)
    except Exception as exc:  # noqa: BLE001 - the last door: a person gets a sentence, the log gets the rest
        from filbert.core.log import log

        log.exception("fault")
        return _failed(
            f"error: Filbert hit a fault of its own ({type(exc).__name__}: {exc}). `--debug` shows where.", 70
        )
    return 0


def _failed(sentence: str, status: int) -> int:
    if "--debug" in sys.argv or os.environ.get("FILBERT_DEBUG"):
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"{sentence}\n")
    return status
