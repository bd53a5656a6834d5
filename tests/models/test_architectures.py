from __future__ import annotations

from importlib.metadata import files

from filbert.models.architectures import LOADABLE


def test_every_architecture_stands_in_the_engines_library() -> None:
    libraries = [file.locate() for file in files("xllamacpp") or () if ".so" in file.name or ".pyd" in file.name]
    texts = b"".join(library.read_bytes() for library in libraries)
    assert [name for name in sorted(LOADABLE) if name.encode() not in texts] == []
    assert {"llama", "qwen3", "gemma3", "bert", "gpt-oss"} <= LOADABLE
    assert "clip" not in LOADABLE
