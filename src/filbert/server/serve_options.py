"""How the server listens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filbert.core.settings import Options


class ServeOptions(Options):
    table: ClassVar[str] = "serve"

    keep_alive: float = Field(
        300, ge=-1, description="Seconds that a model stays in memory after its last use; -1 for good, 0 not at all."
    )
    memory_gb: float | None = Field(
        None, gt=0, description="Memory that all models may take, in GB. Left out: what is free."
    )
    queue: int = Field(64, ge=0, description="Requests that may wait for a model; more are told to come back.")
    deadline: float = Field(1800, gt=0, description="Seconds after which an answer ends, its wait included.")
    drain: float = Field(
        10, ge=0, description="Seconds that answers under way have left when the server is told to end."
    )
    port: int = Field(4891, ge=0, le=65535, description="Port on 127.0.0.1; 0 takes a free one.")
