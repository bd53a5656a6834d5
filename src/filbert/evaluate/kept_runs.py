"""Runs that are kept, found again by the name that was printed."""

from __future__ import annotations

from typing import Any

from filbert.core import paths
from filbert.core.errors import BadInput
from filbert.evaluate.tables import need_pyarrow, read_own_parquet


def items_of(run: str) -> list[dict[str, Any]]:
    """Every item of a finished run. Raises BadInput."""
    need_pyarrow()
    found = [file for file in paths.evaluations_folder().glob("*/*/items.parquet") if file.parent.name == run]
    if not found:
        kept = sorted(file.parent.name for file in paths.evaluations_folder().glob("*/*/items.parquet"))
        raise BadInput(
            f"There is no finished run {run}.",
            why=f"Here are {', '.join(kept[:8])}." if kept else "None is kept here.",
            do="`filbert evaluate` prints the name of each run.",
        )
    return read_own_parquet(found[0])
