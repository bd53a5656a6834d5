"""A prompt told again, as the field `echo` asks: before its answer, or by itself with how likely its tokens are."""

from __future__ import annotations

import codecs
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from filbert.engine.echo import Echo, EchoedToken
from filbert.engine.model import Prepared
from filbert.engine.transport import Event
from filbert.server.openai_shape import OpenAIShape, as_bytes, choice_number
from filbert.server.response import events


class EchoShape(OpenAIShape):
    """prompt: what is told before each answer; to be set before it begins."""

    prompt = ""

    def stream(self, prepared: Prepared, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return as_bytes(self._with_prompt(events(super().stream(prepared, pieces))))

    async def _with_prompt(self, found: AsyncIterator[Event]) -> AsyncIterator[Event]:
        told: set[int] = set()
        async for event in found:
            if (number := choice_number(event)) is not None and number not in told:
                told.add(number)
                event["choices"][0]["text"] = self.prompt + event["choices"][0]["text"]
            yield event

    def whole(self, found: Sequence[Event]) -> dict[str, Any]:
        document = super().whole(found)
        for choice in document["choices"]:
            choice["text"] = self.prompt + choice["text"]
        return document


def echoed(model: str, echoes: Sequence[Echo], n_following: int) -> dict[str, Any]:
    """Prompts by themselves, or each with the token that follows."""
    n_read, n_written = sum(echo.n_read for echo in echoes), n_following * len(echoes)
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [_choice(i, echo, n_following) for i, echo in enumerate(echoes)],
        "usage": {"prompt_tokens": n_read, "completion_tokens": n_written, "total_tokens": n_read + n_written},
    }


def _choice(index: int, echo: Echo, n_following: int) -> dict[str, Any]:
    tokens = [*echo.tokens, *[echo.following][:n_following]]
    text, offsets = _text([token.piece for token in tokens])
    values: list[float | None] = [token.loglikelihood for token in tokens]
    tops: list[dict[str, float | None] | None] = [_likeliest(token) for token in tokens]
    if echo.tokens:
        values[0] = tops[0] = None  # as OpenAI has it, also where something stood before it
    told = {"tokens": [_name(token.piece) for token in tokens], "token_logprobs": values, "top_logprobs": tops}
    return {"index": index, "finish_reason": "length", "text": text, "logprobs": told | {"text_offset": offsets}}


def _text(pieces: Iterable[bytes]) -> tuple[str, list[int]]:
    """What they make up, and how many characters of it stand before each."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, offsets = "", []
    for piece in pieces:
        offsets.append(len(text))
        text += decoder.decode(piece)
    return text + decoder.decode(b"", final=True), offsets


def _name(piece: bytes) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)  # as OpenAI writes a part of a character


def _likeliest(token: EchoedToken) -> dict[str, float | None]:
    """The token itself is always among them. Of two that are written alike, the likelier counts."""
    told: dict[str, float | None] = {}
    for piece, value in (*token.likeliest, (token.piece, token.loglikelihood)):
        told.setdefault(_name(piece), value)
    return told
