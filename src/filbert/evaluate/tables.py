"""Parquet and Arrow files, by pyarrow, which comes with the extra `evaluate` (docs/decisions/009-parquet.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filbert.core.errors import BadInput
from filbert.core.files import write_whole

if TYPE_CHECKING:
    import pyarrow

MISSING = "Install it with `pip install 'filbert[evaluate]'`."


def need_pyarrow() -> None:
    """Raises BadInput where the extra is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as exc:
        raise BadInput("Evaluation keeps its items as Parquet, which needs pyarrow.", do=MISSING) from exc


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Whole or not at all. columns: the type of each, as pyarrow names it, a list's with [] behind it."""
    import pyarrow
    from pyarrow import parquet

    types = {name: pyarrow.type_for_alias(kind.removesuffix("[]")) for name, kind in columns.items()}
    fields = [
        (name, pyarrow.list_(types[name]) if kind.endswith("[]") else types[name]) for name, kind in columns.items()
    ]
    table = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=pyarrow.schema(fields))
    with write_whole(path) as file:
        parquet.write_table(table, file, compression="zstd")


def read_own_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    table: pyarrow.Table = parquet.read_table(path)
    return list(table.to_pylist())


def read_foreign_parquet(path: Path) -> list[dict[str, Any]]:
    """Read in a child, since the file is somebody else's and the reader is native code. Raises BadInput."""
    done = subprocess.run([sys.executable, "-P", str(Path(__file__)), str(path)], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise BadInput(f"{path} cannot be read.", why=f"{reason[-1][:200]}.", do="Give a whole Parquet file.")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    for row in read_own_parquet(Path(sys.argv[1])):
        sys.stdout.write(json.dumps(row, default=str) + "\n")


if __name__ == "__main__":
    main()
