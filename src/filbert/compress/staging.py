"""What a converter sees of a model: a folder of links to files that were checked, and JSON that names no code.

Converters load tokenizers with `trust_remote_code`: what Python lies beside them, or is named by them, would run.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from filbert.models.safetensors import read_safetensors
from filbert.models.weights_folder import names_in, read_json, taken

NAMES_CODE = frozenset(("auto_map", "auto_mapping", "custom_pipelines", "trust_remote_code"))


def staged(folder: Path, parent: Path) -> Path:
    """Make it in the parent, by the name of the folder, which a model without a name of its own gets. Raises
    BadModelFile for safetensors that lie and for JSON that is none."""
    stage = parent / folder.resolve().name
    for name in taken(names_in(folder)):
        file, link = folder / name, stage / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            read_safetensors(file)
        told = read_json(file) if name.endswith(".json") else None
        if name.endswith("config.json"):
            link.write_text(json.dumps(_without_code(told)), "utf-8")
        else:
            _link(file.resolve(), link)
    return stage


def _without_code(value: object) -> object:
    """Whatever depth it lies at. Only of configurations: in a vocabulary such a key is a token."""
    if isinstance(value, dict):
        return {key: _without_code(each) for key, each in value.items() if key not in NAMES_CODE}
    return [_without_code(each) for each in value] if isinstance(value, list) else value


def _link(file: Path, link: Path) -> None:
    try:
        link.symlink_to(file)
    except OSError:  # Windows allows it to few
        try:
            os.link(file, link)
        except OSError:  # another disk
            shutil.copyfile(file, link)
