"""OpenAI's routes. Each request is rebuilt from the schemas of `bodies`; nothing else of it reaches a worker."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from filbert.core.errors import Cancelled
from filbert.engine.bounds import text_bound
from filbert.engine.model import STREAMED, Prepared
from filbert.engine.pool import Loan
from filbert.engine.tool_calls import CallReader, reader
from filbert.models.store import StoredModel
from filbert.server.anthropic_shape import model_info, models_page
from filbert.server.bodies import ChatBody, CompletionBody, EmbeddingsBody, GenerationBody
from filbert.server.error_bodies import ErrorBody, speaks_anthropic
from filbert.server.json_route import JsonRoute, offered_by
from filbert.server.measured import measured_of
from filbert.server.openai_shape import OpenAIShape
from filbert.server.response import Gathered, Streamed

TEXTS_AT_ONCE = 32  # embedded between two looks whether the client is still there


router = APIRouter(route_class=JsonRoute, responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}})
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "One document, or with `stream` its events.", "content": {"text/event-stream": {}}}
}


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """Every model that can be asked for."""
    found = await asyncio.to_thread(offered_by(request).known)
    if speaks_anthropic(request.scope):
        return models_page(found)
    return {"object": "list", "data": [_shown(stored) for stored in found]}


@router.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> dict[str, Any]:
    """One model."""
    found = await asyncio.to_thread(offered_by(request).find, name)
    return model_info(found) if speaks_anthropic(request.scope) else _shown(found)


def _shown(stored: StoredModel) -> dict[str, Any]:
    created = int(datetime.fromisoformat(stored.pulled).timestamp()) if stored.pulled else 0
    stands_for = {"stands_for": stored.preset.stands_for} if stored.preset and stored.preset.is_stand_in else {}
    return {"id": stored.name, "object": "model", "created": created, "owned_by": "filbert", **stands_for}


@router.post("/v1/chat/completions", responses=STREAM)
async def chat_completions(body: ChatBody, request: Request) -> Response:
    """Answer a conversation."""
    use = body.tool_use()
    loan = await offered_by(request).lend(body.model)

    def prepare() -> Prepared:
        sampling = body.sampling_for(thinks=loan.model.thinking is not None)
        return loan.model.prepare_chat([message.message() for message in body.messages], sampling, use)

    return _answer(loan, prepare, body, reader(use))


@router.post("/v1/completions", responses=STREAM)
async def completions(body: CompletionBody, request: Request) -> Response:
    """Go on from a text as it stands, without a chat template."""
    loan = await offered_by(request).lend(body.model)

    def prepare() -> Prepared:
        loan.model.need("text")
        bound = text_bound(body.prompt)
        return loan.model.prepare("/v1/completions", {"prompt": body.prompt}, body.sampling(), bound)

    return _answer(loan, prepare, body)


def _answer(
    loan: Loan, prepare: Callable[[], Prepared], body: GenerationBody, calls: CallReader | None = None
) -> Response:
    def wanted() -> Prepared:
        prepared = prepare()
        return replace(prepared, body={**prepared.body, **STREAMED})

    shape = OpenAIShape(calls, usage=body.stream_options.include_usage)
    return (Streamed if body.stream else Gathered)(loan, wanted, shape)


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, request: Request) -> dict[str, Any]:
    """Unit vectors, one a text."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors: list[list[float]] = []
    measured = measured_of(request.scope)
    with await offered_by(request).lend(body.model) as loan:
        measured.model = loan.model.name
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            if await request.is_disconnected():
                raise Cancelled("The client left.")
            part = await asyncio.to_thread(loan.model.embed, texts[start : start + TEXTS_AT_ONCE])
            vectors += part.vectors
            measured.prompt_tokens += part.usage.prompt_tokens
    shape = _base64 if body.encoding_format == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": shape(vector)} for i, vector in enumerate(vectors)]
    tokens = measured.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": loan.model.name, "data": data, "usage": usage}


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit numbers, as OpenAI's clients read them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
