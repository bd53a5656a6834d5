"""A model as Hugging Face keeps it: a folder of weights (safetensors), JSON and tokenizers. Which of its files matter.

Of a folder on this machine and of one on the hub the same is asked, so all here begins with names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from filbert.core.errors import BadInput, BadModelFile
from filbert.core.files import SAFE, size

Stem = Literal["model", "adapter_model"]  # how the weights' files are called, of a model and of a LoRA adapter
CONFIG: dict[Stem, str] = {"model": "config.json", "adapter_model": "adapter_config.json"}
# What a converter may read: never Python, and nothing pickled.
TAKEN = (
    *("*.safetensors", "*.json", "*.jsonl", "*.model", "*.txt", "*.tiktoken", "*.jinja", "*.spm", "*.vocab"),
    *("README.md", "LICENSE*", "additional_chat_templates/*.jinja"),
    *("[0-9]_*/config.json", "[0-9]_*/model.safetensors", "encoder/*.json", "tokenizer/*.json"),
)
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
SHARD = re.compile(r".+-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
MOST_JSON_BYTES = 200_000_000


def taken(names: Iterable[str]) -> list[str]:
    """Of paths within a folder, those that a converter may see; none but plain names."""
    plain = (name for name in names if all(map(SAFE.fullmatch, name.split("/"))))
    return sorted(name for name in plain if any(_matches(name, pattern) for pattern in TAKEN))


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def weights_among(names: Iterable[str], stem: Stem, where: str) -> list[str]:
    """The files that hold a model's weights, or an adapter's. Raises BadInput where there are none."""
    names = list(names)
    found = sorted(name for name in names if _matches(name, f"{stem}*.safetensors"))
    if found:
        return found
    pickled = sorted(name for name in names if any(_matches(name, pattern) for pattern in PICKLED))
    if pickled:
        raise BadInput(
            f"{where} has no {stem}*.safetensors.",
            why=f"{pickled[0]} is pickled: opening it runs whatever its maker put in.",
            do="Take a revision with safetensors, or have huggingface.co/spaces/safetensors/convert make one.",
        )
    raise BadInput(f"{where} has no {stem}*.safetensors.", do=f"Name a folder with {CONFIG[stem]} and weights.")


def names_in(folder: Path) -> list[str]:
    """The files of a folder and of the folders in it, as paths within."""
    found = (file for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.is_file())
    return [file.relative_to(folder).as_posix() for file in found]


def weights_in(folder: Path, stem: Stem = "model") -> list[Path]:
    """The files with weights of a folder on this machine: those that its index names, else those that are there. Raises
    BadInput for a folder that is none, BadModelFile where a part is missing."""
    need_config(folder, stem)
    index = folder / f"{stem}.safetensors.index.json"
    there = names_in(folder)
    named = _named(index) if index.is_file() else _all_shards(weights_among(there, stem, folder.name))
    if missing := [name for name in named if name not in there]:
        raise BadModelFile(
            f"{folder.name} is not whole.",
            why=f"{missing[0]} is not there, and {len(missing) - 1} more."
            if missing[1:]
            else f"{missing[0]} is not there.",
            do="Download the rest of it.",
        )
    return [folder / name for name in named]


def need_config(folder: Path, stem: Stem = "model") -> None:
    """Raises BadInput for a folder of something else."""
    if not (folder / CONFIG[stem]).is_file():
        kind = "an adapter" if stem == "adapter_model" else "a model"
        raise BadInput(
            f"{folder.name} is no folder of {kind}.", why=f"It has no {CONFIG[stem]}.", do="Name the one that has."
        )


def _all_shards(found: Sequence[str]) -> list[str]:
    """With those that are missing between them, by their numbers."""
    counted = {name: int(match["count"]) for name in found if (match := SHARD.fullmatch(name))}
    if len(counted) != len(found):
        return list(found)
    first, count = next(iter(counted.items()))
    stem = first.rpartition("-of-")[0].rpartition("-")[0]
    return [f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _named(index: Path) -> list[str]:
    told = read_json(index)
    parts = told.get("weight_map") if isinstance(told, dict) else None
    if not isinstance(parts, dict) or not parts or not all(isinstance(name, str) for name in parts.values()):
        raise BadModelFile(f"{index.name} is damaged.", why="It maps no weights to files.", do="Download it again.")
    names = sorted(set(parts.values()))
    if wrong := next((name for name in names if not _matches(name, "*.safetensors") or "\\" in name), None):
        raise BadModelFile(
            f"{index.name} is damaged.",
            why=f"It names {wrong!r:.80}, which is no file beside it.",
            do="Download it again.",
        )
    return names


def read_json(file: Path) -> object:
    """Raises BadModelFile for what is none, nests for ever, or is too large to be a model's."""
    if file.stat().st_size > MOST_JSON_BYTES:
        raise BadModelFile(
            f"{file.name} is damaged.", why=f"It has more than {size(MOST_JSON_BYTES)}.", do="Download it again."
        )
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as exc:
        raise BadModelFile(
            f"{file.name} is damaged.", why="It is no JSON that can be read.", do="Download it again."
        ) from exc
