"""How the server listens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filbert.core.settings import Options


class ServeOptions(Options):
    table: ClassVar[str] = "serve"

    port: int = Field(4891, ge=0, le=65535, description="Port on 127.0.0.1; 0 takes a free one.")
