"""GGUF files put together byte by byte, so that any count, length or offset in them can lie."""

from __future__ import annotations

import struct

U8, U32, FLOAT, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
F32, Q4_0 = 0, 2


def string(text: str | bytes, length: int | None = None) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data) if length is None else length) + data


def key(name: str, kind: int, payload: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + payload


def u32(name: str, value: int) -> bytes:
    return key(name, U32, struct.pack("<I", value))


def text(name: str, value: str) -> bytes:
    return key(name, STRING, string(value))


def array(name: str, kind: int, count: int, payload: bytes) -> bytes:
    return key(name, ARRAY, struct.pack("<IQ", kind, count) + payload)


def strings(name: str, values: list[str]) -> bytes:
    return array(name, STRING, len(values), b"".join(map(string, values)))


def tensor(name: str, shape: tuple[int, ...] = (32, 2), kind: int = F32, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + dimensions + struct.pack("<IQ", kind, offset)


MODEL = (
    text("general.architecture", "llama"),
    u32("llama.block_count", 1),
    u32("llama.context_length", 64),
    u32("llama.embedding_length", 32),
    u32("llama.attention.head_count", 4),
)


def gguf(
    keys: tuple[bytes, ...] = MODEL,
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    counts = len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count
    header = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + data if data else header


class Watched:
    """A reader that remembers what was read and lets nobody read outside the file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.extents: list[tuple[int, int]] = []

    def __call__(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and length >= 0 and offset + length <= len(self.data), (offset, length, len(self.data))
        self.extents.append((offset, length))
        return self.data[offset : offset + length]
