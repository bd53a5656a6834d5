"""How functions may be called for a model: declared once for Python, config and docs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filbert.core.settings import Options


class ToolOptions(Options):
    table: ClassVar[str] = "tools"

    max_rounds: int = Field(
        8, ge=1, le=1_000, description="How often a model may call functions before it has to answer."
    )
    timeout_s: float = Field(60.0, gt=0, le=86_400, description="Seconds until a call counts as failed.")
    max_result_chars: int = Field(
        8_000, ge=100, le=10_000_000, description="Characters of a result that the model is shown."
    )
