"""What a Ray cluster serves."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filbert.core.settings import Options


class ClusterOptions(Options):
    table: ClassVar[str] = "cluster"

    model: str = Field("", description="The model that a cluster serves. Left out: the setting `model`.")
    pull: bool = Field(False, description="Pull it on each machine that does not have it.")
    min_replicas: int = Field(1, ge=0, description="Machines that hold it at least; 0 unloads it when nobody asks.")
    max_replicas: int = Field(8, ge=1, description="Machines that hold it at most.")
