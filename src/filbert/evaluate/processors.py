"""The Python that lm-evaluation-harness's files of HellaSwag and WinoGrande name, ours. No other is known.

A file's own Python is never run. Where a module lies beside the YAML file, it must be the one that these do the work of
(sha256 in MODULES: the same bytes from February 2024 to version 0.4.13).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filbert.core.errors import BadInput

MODULES = {
    "utils": "07d23b60b28f2a4f658dcf8440623a63fe6644854ce9b846a114dde980dc1214",
    "preprocess_winogrande": "e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006",
}
IN_BRACKETS = re.compile(r"\[.*?\]")
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """What a YAML file calls `!function name`; `folder` is that of the file."""

    name: str
    folder: Path

    def __call__(self, document: Document) -> Any:
        return PROCESSORS[self.name](document)


def need_known(function: Function, key: str, *, where: Path) -> Function:
    """Raises BadInput for a function that is none of ours."""
    if function.name not in PROCESSORS or not key.startswith(function.name.rpartition(".")[2]):
        raise BadInput(
            f"{where} wants to run Python: {key} is !function {function.name}.",
            why="No Python from a file is run.",
            do="Say it with a Jinja template, or prepare the data file beforehand.",
        )
    module = function.name.partition(".")[0]
    source = function.folder / f"{module}.py"
    if source.is_file() and _sha256(source) != MODULES[module]:
        raise BadInput(
            f"{where} wants to run Python: {source.name} beside it is not lm-evaluation-harness's.",
            why=f"No Python from a file is run, and ours stands for that of lm-eval 0.4.13 where {key} names it.",
            do=f"Say it with a Jinja template, or take {source.name} away if lm-eval's is meant.",
        )
    return function


def _sha256(source: Path) -> str:
    return hashlib.sha256(source.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def hellaswag(document: Document) -> Document:
    context = document["ctx_a"] + " " + document["ctx_b"].capitalize()
    return {
        **document,
        "query": _without_wikihow(document["activity_label"] + ": " + context),
        "choices": [_without_wikihow(ending) for ending in document["endings"]],
        "gold": int(document["label"]),
    }


def _without_wikihow(text: str) -> str:
    """Brackets are left from WikiHow's pages."""
    text = text.strip().replace(" [title]", ". ")
    return IN_BRACKETS.sub("", text).replace("  ", " ")


def winogrande_text(document: Document) -> int:
    """Which of the choices is right: they are the contexts, and the target follows each."""
    return {"1": 0, "2": 1}[document["answer"]]


def winogrande_target(document: Document) -> str:
    sentence: str = document["sentence"]
    return sentence[sentence.index("_") + 1 :].strip()


def winogrande_choice(document: Document) -> list[str]:
    beginning = document["sentence"][: document["sentence"].index("_")]
    return [beginning + document["option1"], beginning + document["option2"]]


PROCESSORS: Mapping[str, Callable[[Document], Any]] = {
    "utils.process_docs": hellaswag,
    "preprocess_winogrande.doc_to_text": winogrande_text,
    "preprocess_winogrande.doc_to_target": winogrande_target,
    "preprocess_winogrande.doc_to_choice": winogrande_choice,
}
