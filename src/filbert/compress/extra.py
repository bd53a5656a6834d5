"""What only some of compressing needs, and whoever wants that installs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from filbert.core.errors import BadInput

TO_TRAIN = ("torch", "gguf")
TO_CONVERT = ("torch", "transformers", "safetensors", "sentencepiece", "google.protobuf")


def missing(modules: Sequence[str]) -> list[str]:
    return [module for module in modules if not _is_here(module)]


def need_extra(what: str, modules: Sequence[str]) -> None:
    """Raises BadInput where one of them is not installed. what: what needs it."""
    if lacking := missing(modules):
        raise BadInput(
            f"{what} needs the extra `convert`.",
            why=f"{lacking[0].partition('.')[0]} is not installed.",
            do="`pip install 'filbert[convert]'` adds it.",
        )


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package it is in
        return False
