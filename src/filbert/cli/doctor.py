"""`filbert doctor`: what this machine has, and what would help."""

from __future__ import annotations

from filbert.cli.options import with_options
from filbert.core.settings import Settings


@with_options()
def doctor(settings: Settings) -> None:
    """What this machine has, what is installed, and what would help."""
