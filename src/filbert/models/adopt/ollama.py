"""Ollama keeps a manifest a name, which lists blobs by their sha256: `manifests/<host>/<namespace>/<model>/<tag>`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from filbert.core.sha256 import DIGITS
from filbert.models.adopt.found import (
    Find,
    Found,
    Refused,
    folder_of_variable,
    home_folder,
    is_there,
    once,
    small_text,
    walk,
)
from filbert.models.modelfile import PARAMETERS

PROGRAM = "Ollama"
# A digest becomes a path. Ollama once took any text for one (CVE-2024-37032); here it is 64 hex digits or refused.
DIGEST = re.compile(f"sha256[:-]({DIGITS})")
KIND = "application/vnd.ollama.image."
HUBS = ("hf.co", "huggingface.co")
RANGES = {"temperature": (0, 2), "top_p": (0, 1), "min_p": (0, 1), "repeat_penalty": (0.1, 2)}


class Layer(BaseModel):
    media_type: str = Field(alias="mediaType")
    digest: str
    size: int = Field(ge=0)


class Manifest(BaseModel):
    layers: list[Layer] = Field(max_length=10_000)


def finds() -> Iterator[Find]:
    for folder in once(folders()):
        yield from finds_in(folder)


def folders() -> Iterator[Path]:
    yield from folder_of_variable("OLLAMA_MODELS")
    yield home_folder() / ".ollama" / "models"
    yield Path("/usr/share/ollama/.ollama/models")
    yield Path("/var/lib/ollama")


def is_store(folder: Path) -> bool:
    return is_there(folder / "manifests") and is_there(folder / "blobs")


def finds_in(store: Path) -> Iterator[Find]:
    manifests = store / "manifests"
    for path in walk(manifests, PROGRAM, lambda name: not name.startswith(".")) if is_there(manifests) else ():
        if isinstance(path, Refused):
            yield path
        elif len(path.relative_to(manifests).parts) == 4:
            yield _model(store, path)


def _model(store: Path, path: Path) -> Find:
    host, namespace, model, tag = path.relative_to(store / "manifests").parts
    said = f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"
    try:
        manifest = Manifest.model_validate_json(small_text(path) or "")
        blobs = _blobs(store, manifest)
    except (ValidationError, ValueError) as exc:
        why = "Its manifest is damaged." if isinstance(exc, ValidationError) else f"{exc}"
        return Refused(PROGRAM, said, why)
    weights = blobs.get("model", [])
    if len(weights) != 1:
        return Refused(PROGRAM, said, "It has no GGUF file." if not weights else "It is in parts.")
    return Found(
        PROGRAM,
        (weights[0],),
        next(iter(blobs.get("projector", [])), None),
        name=f"hf:{namespace}/{model}:{tag}" if host in HUBS else said.replace("/", "-"),
        source=f"ollama:{host}/{namespace}/{model}:{tag}",
        hashes=(weights[0].name[-64:],),
        sampling=_sampling(blobs),
        system=next((small_text(blob) or "" for blob in blobs.get("system", [])), ""),
        note="Its adapter is left out." if "adapter" in blobs else "",
    )


def _blobs(store: Path, manifest: Manifest) -> dict[str, list[Path]]:
    """The files of a manifest by what they are. Raises ValueError for one that is refused, with a sentence."""
    blobs: dict[str, list[Path]] = {}
    for layer in manifest.layers:
        digest = DIGEST.fullmatch(layer.digest)
        if not digest:
            raise ValueError("A digest in its manifest is not 64 hex digits.")
        kind = layer.media_type.removeprefix(KIND)
        if kind in ("model", "projector", "adapter", "params", "system"):
            blobs.setdefault(kind, []).append(_blob(store, digest[1], layer.size))
    return blobs


def _blob(store: Path, sha256: str, size_bytes: int) -> Path:
    """Raises ValueError."""
    for name in (f"sha256-{sha256}", f"sha256:{sha256}"):  # the second until Ollama 0.1.30
        path = store / "blobs" / name
        try:
            there = path.stat().st_size if path.is_file() else None
        except OSError as exc:
            raise ValueError(f"A blob of it cannot be read: {exc.strerror}.") from exc
        if there not in (None, size_bytes):
            raise ValueError(f"A blob of it has {there:,} bytes and {size_bytes:,} are said.")
        if there is not None:
            return path
    raise ValueError("A blob of it is missing.")


def _sampling(blobs: dict[str, list[Path]]) -> dict[str, Any]:
    """The parameters that we have as well, as far as their values make sense here."""
    try:
        said = json.loads(next((small_text(blob) or "{}" for blob in blobs.get("params", [])), "{}"))
    except (ValueError, RecursionError):
        return {}
    kept = said.items() if isinstance(said, dict) else ()
    return {PARAMETERS[name]: value for name, value in kept if _makes_sense(name, value)}


def _makes_sense(name: str, value: object) -> bool:
    if name == "stop":
        return isinstance(value, list) and len(value) <= 64 and all(map(_is_text, value))
    least, most = RANGES.get(name, (1, 0))
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: object) -> bool:
    """Whether it is a text that can be kept: JSON may hold half a character (a lone surrogate)."""
    return isinstance(value, str) and bool(value) and not re.search(r"[\ud800-\udfff]", value)
