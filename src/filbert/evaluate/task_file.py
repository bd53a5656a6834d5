"""A YAML file of lm-evaluation-harness and those it includes, as one table. Nothing in it is run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from filbert.core.errors import BadInput
from filbert.evaluate.processors import Function

MOST_BYTES = 1_000_000  # lm-eval's largest is 40 kB


def read(path: Path) -> dict[str, Any]:
    """The keys of a file; its own win over those of the files it includes, and later ones over earlier. Paths of data
    files are made absolute, by the file that names them. Raises BadInput."""
    path = path.resolve()
    return _merged(path, path.parent, ())


def _merged(path: Path, root: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise BadInput(f"{path} includes itself.", do="Take the `include` out of one of the files.")
    if not path.is_relative_to(root):
        raise BadInput(
            f"{above[-1]} includes {path}, which is outside its folder.",
            do=f"Copy the file into {root}, and include it there.",
        )
    own = _table(path)
    included = own.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        if not isinstance(name, str):
            raise BadInput(f"{path} includes {name!r}, which is no name of a file.", do="Write `include: other.yaml`.")
        other = _merged((path.parent / name).resolve(), root, (*above, path))
        other.pop("task_list", None)  # which tells of the included file alone
        merged |= other
    return merged | own


def _table(path: Path) -> dict[str, Any]:
    loader = None
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise BadInput(f"{path} is no task file.", why="It is over 1 MB.", do="Give the path of a YAML file.")
        loader = _Loader(text)
        loader.folder = path.parent
        table = loader.get_single_data()
    except OSError as exc:
        raise BadInput(f"{path} cannot be read.", why=f"{exc.strerror}.", do="Check the path.") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        why = " ".join(str(exc).split()) or "It is nested too deeply."
        raise BadInput(f"{path} is not YAML that can be read.", why=why, do="Mend it there.") from exc
    finally:
        if loader:
            loader.dispose()
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        kind = "a list" if isinstance(table, list) else "no table of keys"
        raise BadInput(f"{path} is not a task: it holds {kind}.", do="Give a file with one task, its keys at the left.")
    _find_data_files(table, path)
    return table


class _Loader(yaml.SafeLoader):
    folder = Path()

    def function(self, node: yaml.Node) -> Function:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "!function names no function", node.start_mark)
        return Function(str(self.construct_scalar(node)), self.folder)


_Loader.add_constructor("!function", _Loader.function)


def _find_data_files(table: dict[str, Any], path: Path) -> None:
    """As splits with addresses; `datasets` calls the split of files without one "train"."""
    options = table.get("dataset_kwargs")
    if not isinstance(options, dict) or options.get("data_files") is None:
        return
    named = options["data_files"]
    splits = named if isinstance(named, dict) else {"train": named}
    table["dataset_kwargs"] = options | {
        "data_files": {
            str(split): tuple(_addresses([files] if isinstance(files, str) else files, path))
            for split, files in splits.items()
        }
    }


def _addresses(files: Any, path: Path) -> Iterable[str]:
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise BadInput(f"{path}: data_files names {files!r}, which is no file.", do="Write `data_files: data.jsonl`.")
    return (file if "://" in file else str(path.parent / file) for file in files)
