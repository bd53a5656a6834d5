"""Models as Ollama's clients are told of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from filbert.core.errors import BadModelFile
from filbert.engine.infill import infill_marks
from filbert.engine.pool import Loaded
from filbert.engine.thinking import thinking_of
from filbert.engine.tools import knows_tools
from filbert.models.gguf import Header, check_split
from filbert.models.header import Stored, Value
from filbert.models.modelfile import PARAMETERS
from filbert.models.name import divided
from filbert.models.store import StoredModel
from filbert.server.answers_ollama import (
    Capability,
    OllamaDetails,
    OllamaModel,
    OllamaRunningModel,
    OllamaShown,
)
from filbert.server.ollama_shape import timestamp
from filbert.server.upstreams.model import RemoteModel

KEPT_FOR_GOOD = datetime(2318, 1, 1, tzinfo=UTC)  # what Ollama says of it
REMOTE_DETAILS: OllamaDetails = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}
UNKNOWN_TIME = timestamp(datetime.fromtimestamp(0, UTC))
THEIRS = {ours: theirs for theirs, ours in PARAMETERS.items()}


def listed(stored: StoredModel) -> OllamaModel:
    """A row of /api/tags. A model whose file cannot be read has no details."""
    try:
        told = details(stored, headers_of(stored))
    except BadModelFile:
        told = details(stored, ())
    return {
        "name": stored.name,
        "model": stored.name,
        "modified_at": modified(stored),
        "size": stored.size_bytes,
        "digest": digest(stored),
        "details": told,
    }


def listed_remote(remote: RemoteModel) -> OllamaModel:
    """A row of /api/tags, as Ollama has it for models of its cloud. It names the other server, not its address."""
    return {
        "name": remote.name,
        "model": remote.name,
        "remote_model": remote.id,
        "remote_host": remote.upstream.name,
        "modified_at": UNKNOWN_TIME,
        "size": 0,
        "digest": hashlib.sha256(remote.name.encode()).hexdigest(),
        "details": REMOTE_DETAILS,
    }


def running(loaded: Loaded, now: datetime) -> OllamaRunningModel:
    """A row of /api/ps."""
    model = loaded.model
    leaves = KEPT_FOR_GOOD if loaded.leaves_s is None else now + timedelta(seconds=loaded.leaves_s)
    return {
        "name": model.name,
        "model": model.name,
        "size": loaded.size_bytes,
        "digest": digest(model.stored),
        "details": details(model.stored, [model.header]),
        "expires_at": timestamp(leaves),
        "size_vram": 0,
        "context_length": model.context,
    }


def shown(found: StoredModel | RemoteModel, verbose: bool) -> OllamaShown:
    """The answer of /api/show. verbose: with the vocabulary. Raises BadModelFile."""
    return shown_remote(found) if isinstance(found, RemoteModel) else shown_stored(found, verbose)


def shown_stored(stored: StoredModel, verbose: bool) -> OllamaShown:
    headers = headers_of(stored)
    preset = stored.preset
    template = (preset and preset.template) or headers[0].chat_template or ""
    system = preset.system if preset else ""
    told: OllamaShown = {
        "license": (preset and preset.licence) or stored.licence or headers[0].licence or "",
        "modelfile": modelfile(stored, system),
        "parameters": "\n".join(f"{name:<30} {value}" for name, value in parameters(stored)),
        "template": template,
        "details": details(stored, headers),
        "model_info": dict(information(headers, verbose)),
        "capabilities": capabilities(stored, headers[0], template),
        "modified_at": modified(stored),
    }
    if system:
        told["system"] = system
    if preset and preset.examples:
        told["messages"] = [{"role": each.role, "content": each.content} for each in preset.examples]
    return told


def shown_remote(remote: RemoteModel) -> OllamaShown:
    """What it can, only its server knows."""
    return {
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "remote_model": remote.id,
        "remote_host": remote.upstream.name,
        "details": REMOTE_DETAILS,
        "model_info": {},
        "capabilities": ["completion", "tools"],
        "modified_at": UNKNOWN_TIME,
    }


def details(stored: StoredModel, headers: Sequence[Header]) -> OllamaDetails:
    """headers: of the parts."""
    family = headers[0].architecture if headers else ""
    return {
        "parent_model": stored.preset.stands_for if stored.preset else "",
        "format": "gguf",
        "family": family,
        "families": [family, "clip"] if stored.projector else [family],
        "parameter_size": human(sum(header.parameters for header in headers)),
        "quantization_level": headers[0].quantisation if headers else "",
    }


def capabilities(stored: StoredModel, header: Header, template: str) -> list[Capability]:
    """tools: for a model whose template knows them; any other that answers is shown them in words."""
    if header.kind != "language":
        return ["embedding"] if header.kind == "embedding" else []
    can: dict[Capability, bool] = {
        "completion": True,
        "tools": knows_tools(template),
        "insert": infill_marks(header) is not None,
        "vision": stored.projector is not None,
        "thinking": thinking_of(template) is not None,
    }
    return [name for name, has in can.items() if has]


def parameters(stored: StoredModel) -> Iterator[tuple[str, str]]:
    """What its preset keeps, by Ollama's names; a text in quotes, as in a Modelfile."""
    kept = {**stored.preset.load, **stored.preset.sampling} if stored.preset else {}
    for name, value in kept.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if name in THEIRS:
                yield THEIRS[name], json.dumps(each, ensure_ascii=False)


def modelfile(stored: StoredModel, system: str) -> str:
    stands_for = stored.preset.stands_for if stored.preset else ""
    base, *adapters = divided(stands_for or stored.name)
    lines = [f"FROM {base}", *(f"ADAPTER {adapter}" for adapter in adapters)]
    lines += [*(f"PARAMETER {name} {value}" for name, value in parameters(stored))]
    return "\n".join([*lines, *([f'SYSTEM """{system}"""'] if system else [])]) + "\n"


def information(headers: Sequence[Header], verbose: bool) -> Iterator[tuple[str, Any]]:
    """The metadata of the first part; long lists only where they are asked for."""
    yield "general.parameter_count", sum(header.parameters for header in headers)
    for key, value in headers[0].metadata.items():
        if key != "tokenizer.chat_template":
            yield key, _told(headers[0].load(key) if verbose else value)


def _told(value: Value) -> Any:
    if isinstance(value, Stored):
        return None
    if isinstance(value, tuple):
        return [_told(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def digest(stored: StoredModel) -> str:
    """Of the file where it says all there is to the model, else of what the name stands for: as Ollama's it changes
    whenever the name means something else."""
    known = stored.known_sha256
    if known and not (stored.adapters or stored.preset or stored.projector):
        return known
    files = [*stored.parts, *([stored.projector] if stored.projector else []), *stored.adapters]
    record = {
        "files": known or [_mark(path) for path in stored.parts],
        "beside": [_mark(path) for path in files[len(stored.parts) :]],
        "preset": stored.preset.model_dump(mode="json") if stored.preset else None,
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def modified(stored: StoredModel) -> str:
    """When it was pulled, or its file was written."""
    if stored.pulled:
        return timestamp(datetime.fromisoformat(stored.pulled))
    return timestamp(datetime.fromtimestamp(_mark(stored.path)[1] / 1e9, UTC))


def human(count: int) -> str:
    """As Ollama writes a number of parameters."""
    for size, letter, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= size:
            return f"{count / size:.{digits}f}{letter}"
    return str(count) if count else ""


def headers_of(stored: StoredModel) -> Sequence[Header]:
    """Of the parts, read once as long as they are the same. Raises BadModelFile."""
    return _headers(stored.parts, tuple(map(_mark, stored.parts)))


@lru_cache(maxsize=64)
def _headers(parts: tuple[Path, ...], marks: tuple[tuple[int, int], ...]) -> Sequence[Header]:
    return check_split(parts)


def _mark(path: Path) -> tuple[int, int]:
    """Bytes, and when it was changed, in ns; zeros where it is gone."""
    try:
        there = path.stat()
    except OSError:
        return 0, 0
    return there.st_size, there.st_mtime_ns
