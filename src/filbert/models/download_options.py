"""How downloads behave."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filbert.core.settings import Options


class DownloadOptions(Options):
    """How downloads behave."""

    table: ClassVar[str] = "download"
    connections: int = Field(4, ge=1, le=16, description="Ranges of one file fetched at the same time.")
    stall_s: float = Field(30, gt=0, description="Seconds without a byte after which a connection counts as stalled.")
    retries: int = Field(5, ge=0, le=100, description="Failures in a row, without a new byte, before giving up.")
    pause_s: float = Field(1, ge=0, description="Seconds before the first retry; each further one waits twice as long.")
