"""Flags that the commands which make files of a model have in common, and the file that they write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.core.errors import BadInput

FULL_MODEL = Annotated[
    str, typer.Argument(metavar="MODEL", help="A full model (F32, F16, BF16).", autocompletion=installed_names)
]
FORCE = Annotated[bool, typer.Option("--force", help="Write over a file.")]


def file_of(name: str, ending: str) -> Path:
    """What a file of the model is called where nobody says."""
    return Path(f"{Path(name).stem.replace(':', '-')}{ending}")


def need_free(target: Path, *, force: bool) -> None:
    """Raises BadInput for a file that is there and may not be written over."""
    if target.exists() and not force:
        raise BadInput(f"{target} is there already.", do="Choose another with --out, or add --force.")
