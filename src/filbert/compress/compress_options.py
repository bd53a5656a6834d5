"""How hard the best file of a size is looked for."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from filbert.core.settings import Options

Maker = Literal["auto", "gradient", "swap"]
Effort = Literal["none", "low", "high"]


class CompressOptions(Options):
    """How hard the best file of a size is looked for."""

    table: ClassVar[str] = "compress"
    sensitivity: Maker = Field(
        "auto",
        description="What tells which tensors matter: gradients (torch, a few architectures) or swaps in the engine. "
        "Left to itself: gradients where they can be had.",
    )
    refine: int = Field(
        4,
        ge=0,
        le=100,
        description="Other mixes of the same size that are measured in the engine; the best is taken. 0: the table is "
        "believed.",
    )
    effort: Literal["auto", Effort] = Field(
        "auto",
        description="Better at the same size. low: the source is re-scaled so that it rounds better; high: the file's "
        "scales are trained on its predictions, too, which needs torch. Left to itself: low for the best of a size, "
        "and for all of a --batch with one; none for --to and --recipe.",
    )
