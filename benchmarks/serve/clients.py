"""Clients that cost next to nothing: they read a stream's bytes and look at the clock."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
TOKEN = re.compile(rb'"(?:content|text)": ?"[^"]')
NAMES = ("river", "stone", "window", "garden", "letter", "winter", "bridge", "engine", "market", "silver", "forest")


@dataclass(frozen=True, slots=True)
class Heard:
    """Seconds on the clock when the question left, when the first and the last token came; what was answered."""

    asked: float
    first: float
    last: float
    tokens: int
    text: str = ""

    @property
    def first_s(self) -> float:
        return self.first - self.asked


def question(words: int = 20) -> list[dict[str, str]]:
    """Never the same twice: the engine remembers prompts."""
    things = " ".join(random.choice(NAMES) for _ in range(words))
    return [{"role": "user", "content": f"{random.random()}: tell a story of {things}."}]


async def ask(address: str, body: Mapping[str, Any], headers: Mapping[str, str] = {}) -> Heard:
    """One streamed chat, over a connection of its own. address: http://… or unix://…"""
    asked = time.perf_counter()
    if address.startswith("unix://"):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix://"))
    else:
        reader, writer = await asyncio.open_connection(urlsplit(address).hostname, urlsplit(address).port)
    document = json.dumps({**body, "stream": True}).encode()
    head = ["POST " + CHAT + " HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json"]
    head += [f"Content-Length: {len(document)}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + document)
    pieces: list[bytes] = []
    first = last = 0.0
    tokens = 0
    while piece := await reader.read(1 << 16):
        pieces.append(piece)
        if found := len(TOKEN.findall(piece)):
            last = time.perf_counter()
            first = first or last
            tokens += found
    writer.close()
    whole = b"".join(pieces)
    if not whole.startswith(b"HTTP/1.1 200") or not tokens:
        raise RuntimeError(whole[:2000].decode(errors="replace"))
    return Heard(asked, first, last, tokens, said(whole))


def said(whole: bytes) -> str:
    """The text of an answer; of its bytes as they came."""
    text = ""
    for line in whole.split(b"\n"):
        if line.startswith(b"data: {") and (choices := json.loads(line[6:]).get("choices")):
            text += choices[0].get("delta", {}).get("content") or ""
    return text


async def many(address: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str] = {}) -> list[Heard]:
    """All at once."""
    return await asyncio.gather(*(ask(address, body, headers) for body in bodies))


def tokens_per_second(heard: Sequence[Heard]) -> float:
    """Of all answers together, from the first question to the last token."""
    return sum(each.tokens for each in heard) / (max(h.last for h in heard) - min(h.asked for h in heard))


def streamed_per_second(heard: Sequence[Heard]) -> float:
    """Of all answers together, from the first token to the last one."""
    return (sum(each.tokens for each in heard) - 1) / (max(h.last for h in heard) - min(h.first for h in heard))
