"""Folders as other programs lay them out, to be searched by an import."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from model_servers import finish, sha256

from filbert.models.adopt.importing import Candidate, search, take

REGISTRY = "registry.ollama.ai/library"


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def blob(models: Path, data: bytes) -> dict[str, object]:
    """A layer of a manifest, with its blob put where Ollama puts it."""
    digest = hashlib.sha256(data).hexdigest()
    put(models / "blobs" / f"sha256-{digest}", data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def ollama(models: Path, name: str, **layers: bytes) -> Path:
    """name: host/namespace/model/tag. layers: model=…, projector=…, params=…, system=…"""
    kinds = {f"application/vnd.ollama.image.{kind}": data for kind, data in layers.items()}
    kept = [{"mediaType": kind, **blob(models, data)} for kind, data in kinds.items()]
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", **blob(models, b"{}")}
    return put(models / "manifests" / name, json.dumps({"schemaVersion": 2, "config": config, "layers": kept}))


def gpt4all_python(home: Path, tiny: bytes) -> Path:
    return put(home / ".cache/gpt4all/tiny-chat-1B.Q4_0.gguf", tiny)


def gpt4all_window(home: Path, tiny: bytes) -> Path:
    return put(home / ".local/share/nomic.ai/GPT4All/tiny-chat-1B.Q4_0.gguf", tiny)


def gpt4all_elsewhere(home: Path, tiny: bytes) -> Path:
    put(home / ".config/nomic.ai/GPT4All.ini", f"[General]\nmodelPath={home}/my models/\nserverChat=true\n")
    return put(home / "my models/tiny-chat-1B.Q4_0.gguf", tiny)


def lm_studio(home: Path, tiny: bytes) -> Path:
    return put(home / ".lmstudio/models/maker/tiny-chat-GGUF/tiny-chat-1B.Q4_0.gguf", tiny)


def lm_studio_pointed(home: Path, tiny: bytes) -> Path:
    put(home / ".lmstudio-home-pointer", f"{home}/studio")
    put(home / "studio/settings.json", json.dumps({"downloadsFolder": f"{home}/downloads"}))
    return put(home / "downloads/maker/tiny-chat-GGUF/tiny-chat-1B.Q4_0.gguf", tiny)


def lm_studio_old(home: Path, tiny: bytes) -> Path:
    return put(home / ".cache/lm-studio/models/maker/tiny-chat-GGUF/tiny-chat-1B.Q4_0.gguf", tiny)


def ollama_home(home: Path, tiny: bytes) -> Path:
    ollama(home / ".ollama/models", f"{REGISTRY}/tiny-chat/1b", model=tiny)
    return home / f".ollama/models/blobs/sha256-{sha256(tiny)}"


def ollama_namespace(home: Path, tiny: bytes) -> Path:
    ollama(home / ".ollama/models", "registry.ollama.ai/somebody/tiny-chat/1b", model=tiny)
    return home / f".ollama/models/blobs/sha256-{sha256(tiny)}"


def ollama_from_the_hub(home: Path, tiny: bytes) -> Path:
    ollama(home / ".ollama/models", "hf.co/Maker/Tiny-GGUF/Q4_0", model=tiny)
    return home / f".ollama/models/blobs/sha256-{sha256(tiny)}"


def hub_cache(home: Path, tiny: bytes) -> Path:
    repository = home / ".cache/huggingface/hub/models--Maker--Tiny-GGUF"
    put(repository / "blobs" / sha256(tiny), tiny)
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "tiny.gguf").symlink_to(f"../../blobs/{sha256(tiny)}")
    put(repository / "refs/main", "a" * 40)
    return snapshot / "tiny.gguf"


def llama_cpp(home: Path, tiny: bytes) -> Path:
    put(home / ".cache/llama.cpp/manifest=Maker=Tiny-GGUF=latest.json", "{}")
    return put(home / ".cache/llama.cpp/Maker_Tiny-GGUF_tiny.gguf", tiny)


def jan(home: Path, tiny: bytes) -> Path:
    data = home / ".local/share/Jan/data"
    record = "model_path: llamacpp/models/Maker/Tiny-Chat-1B/model.gguf\nname: Tiny-Chat-1B\nsize_bytes: 5\n"
    put(data / "llamacpp/models/Maker/Tiny-Chat-1B/model.yml", record)
    return put(data / "llamacpp/models/Maker/Tiny-Chat-1B/model.gguf", tiny)


def jan_old(home: Path, tiny: bytes) -> Path:
    return put(home / "jan/models/tiny/tiny-chat-1B.Q4_0.gguf", tiny)


def imported(*paths: Path, name: str = "") -> list[Candidate]:
    return take(finish(search(paths, name)))


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with what would show that it was touched."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}
