"""A model file of 20 GB that takes no room: a real header with a vocabulary of today's size, and a hole behind it."""

from __future__ import annotations

import random
import re
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import raw_gguf

WIDTH, FEED, BLOCKS, HEADS, KV_HEADS, HEAD = 5120, 17408, 98, 40, 8, 128
TOKENS, MERGES = 248_320, 247_587
Q4_K, F32, I32 = 12, 0, 5


def write(path: Path) -> Path:
    """A dense model of 35 billion weights in Q4_K."""
    tensors = list(_tensors())
    described, offset = [], 0
    for name, shape, kind in tensors:
        described.append(raw_gguf.tensor(name, shape, kind, offset))
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        offset += -(-(size // 256 * 144 if kind == Q4_K else 4 * size) // 32) * 32
    header = raw_gguf.gguf(_keys(), tuple(described), b"\0")[:-1]
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)
    return path


def _keys() -> tuple[bytes, ...]:
    letters = random.Random(1)
    words = ["".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=letters.randint(2, 11))) for _ in range(TOKENS)]
    merges = [f"{word[: len(word) // 2 or 1]} {word[len(word) // 2 or 1 :]}" for word in words[:MERGES]]
    named = {
        "context_length": 262144,
        "embedding_length": WIDTH,
        "block_count": BLOCKS,
        "feed_forward_length": FEED,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
    }
    return (
        raw_gguf.text("general.architecture", "qwen3"),
        *(raw_gguf.u32(f"qwen3.{key}", value) for key, value in named.items()),
        raw_gguf.u32("general.file_type", 15),
        raw_gguf.text("tokenizer.ggml.model", "gpt2"),
        raw_gguf.strings("tokenizer.ggml.tokens", words),
        raw_gguf.array("tokenizer.ggml.token_type", I32, TOKENS, struct.pack(f"<{TOKENS}i", *[1] * TOKENS)),
        raw_gguf.strings("tokenizer.ggml.merges", merges),
    )


def _tensors() -> list[tuple[str, tuple[int, ...], int]]:
    found: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (WIDTH, TOKENS), Q4_K),
        ("output.weight", (WIDTH, TOKENS), Q4_K),
        ("output_norm.weight", (WIDTH,), F32),
    ]
    for block in range(BLOCKS):
        sizes = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, HEADS * HEAD),
            "attn_k": (WIDTH, KV_HEADS * HEAD),
            "attn_v": (WIDTH, KV_HEADS * HEAD),
            "attn_output": (HEADS * HEAD, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (WIDTH, FEED),
            "ffn_up": (WIDTH, FEED),
            "ffn_down": (FEED, WIDTH),
        }
        found += [
            (f"blk.{block}.{name}.weight", shape, F32 if len(shape) == 1 else Q4_K) for name, shape in sizes.items()
        ]
    return found


@dataclass
class BigServer:
    """Serves ranges of one file from the disk, and counts what it sent. `serving` of model_servers starts it."""

    path: Path
    served: int = 0
    port: int = 0
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.path.name}"

    def answer(self, handler: BaseHTTPRequestHandler, head: bool) -> None:
        size = self.path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        if not asked or urlsplit(handler.path).path != f"/{self.path.name}":
            handler.send_error(404)
            return
        start, end = int(asked[1]), min(int(asked[2]) + 1, size)
        with self.path.open("rb") as file:
            file.seek(start)
            body = file.read(end - start)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", '"big"')
        handler.end_headers()
        if not head:
            handler.wfile.write(body)
            self.served += len(body)
