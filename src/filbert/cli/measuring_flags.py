"""Flags that the commands which measure have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WINDOW_TOKENS = 512

WINDOW = Annotated[
    int, typer.Option("--window", min=16, help="Tokens a window of --text; the second half of each is scored.")
]
LIMIT = Annotated[
    int | None, typer.Option("--limit", min=1, help="Items of each task, from its first.", show_default=False)
]
DATA = Annotated[
    Path | None,
    typer.Option("--data", help="A folder of a folder a task: validation.jsonl, test.jsonl.gz, ….", show_default=False),
]
