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
from fastapi.responses import JSONResponse

from filbert.engine.model import STREAMED, Prepared
from filbert.engine.pool import Loan
from filbert.engine.tool_calls import reader
from filbert.models.store import StoredModel
from filbert.server import openapi
from filbert.server.answers import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    Deleted,
    EmbeddingList,
    ModelList,
    ModelRow,
    Ranking,
)
from filbert.server.answers_anthropic import ModelInfo, ModelsPage
from filbert.server.anthropic_shape import model_info, models_page
from filbert.server.bodies import ChatBody, CompletionBody, EmbeddingsBody, GenerationBody, RerankBody
from filbert.server.echo_shape import EchoShape, echoed
from filbert.server.error_bodies import ErrorBody, speaks_anthropic
from filbert.server.fetched_images import with_images
from filbert.server.json_route import JsonRoute, lent, offered_by
from filbert.server.lent import Lent
from filbert.server.measured import measured_of
from filbert.server.openai_shape import EachChoice, OpenAIShape
from filbert.server.patience import patient
from filbert.server.response import Gathered, Streamed, owner_of, queue_of
from filbert.server.upstreams.model import RemoteModel
from filbert.server.vectors import embedded, shortened

router = APIRouter(
    tags=[openapi.OPENAI],
    route_class=JsonRoute,
    responses=openapi.refused(ErrorBody, *openapi.ANYWHERE, *openapi.OF_MODELS),
)
HOW = "One document, or with `stream` its events, and `[DONE]` behind them."
CHAT_STREAM = openapi.streamed("text/event-stream", ChatCompletionChunk | ErrorBody, HOW)
COMPLETION_STREAM = openapi.streamed("text/event-stream", CompletionChunk | ErrorBody, HOW)


@router.get("/v1/models")
async def list_models(request: Request) -> ModelList | ModelsPage:
    """Every model that can be asked for."""
    found = await asyncio.to_thread(offered_by(request).everything)
    if speaks_anthropic(request.scope):
        return models_page(found)
    return {"object": "list", "data": [_shown(each) for each in found]}


@router.get("/v1/models/{name:path}")
async def get_model(name: str, request: Request) -> ModelRow | ModelInfo:
    """One model."""
    found = await asyncio.to_thread(offered_by(request).look_up, name)
    return model_info(found) if speaks_anthropic(request.scope) else _shown(found)


def _shown(stored: StoredModel | RemoteModel) -> ModelRow:
    """One on another server says so, and whether that can be asked now."""
    if isinstance(stored, RemoteModel):
        server = stored.upstream
        return {
            "id": stored.name,
            "object": "model",
            "created": 0,
            "owned_by": server.name,
            "remote": True,
            "status": "down" if server.trouble else "up",
        }
    created = int(datetime.fromisoformat(stored.pulled).timestamp()) if stored.pulled else 0
    row: ModelRow = {
        "id": stored.name,
        "object": "model",
        "created": created,
        "owned_by": "filbert",
        "kind": stored.kind,
    }
    if stored.preset and stored.preset.is_stand_in:
        row["stands_for"] = stored.preset.stands_for
    return row


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=CHAT_STREAM)
async def create_chat_completion(body: ChatBody, request: Request) -> Response:
    """Answer a conversation."""
    use, body = body.tool_use(), await with_images(body, request)
    loan = await lent(request, body.model)

    def prepare() -> Prepared:
        sampling = body.sampling_for(thinks=loan.model.thinking is not None)
        return loan.model.prepare_chat([message.message() for message in body.messages], sampling, use)

    calls = EachChoice(lambda: reader(use)) if body.n > 1 and use.tools else reader(use)
    return _answer(loan, prepare, body, OpenAIShape(calls, usage=body.stream_options.include_usage))


@router.post("/v1/completions", response_model=Completion, responses=COMPLETION_STREAM)
async def create_completion(body: CompletionBody, request: Request) -> Response:
    """Go on from a text as it stands, without a chat template, or write what stands before `suffix`."""
    scores = body.scores_prompt
    loan = await lent(request, body.model)
    if scores:
        with loan:
            return JSONResponse(await _scored(body, loan, request))
    (prompt,) = body.prompts
    usage = body.stream_options.include_usage
    shape = EchoShape(usage=usage) if body.echo else OpenAIShape(usage=usage)

    def prepare() -> Prepared:
        if isinstance(shape, EchoShape):
            shape.prompt = prompt if isinstance(prompt, str) else loan.model.detokenize(prompt)
        return loan.model.prepare_text(prompt, body.sampling(), body.suffix)

    return _answer(loan, prepare, body, shape)


async def _scored(body: CompletionBody, loan: Loan[Lent], request: Request) -> dict[str, Any]:
    """The prompts by themselves, or with a token each."""
    measured = measured_of(request.scope)
    measured.model = loan.model.name
    asked = loan.model.echoing(body.prompts, body.logprobs or 0, owner_of(request.scope), queue_of(request.scope))
    echoes = await patient(request, asked)
    measured.prompt_tokens = sum(echo.n_read for echo in echoes)
    measured.completion_tokens = len(echoes) * (body.most_tokens or 0)
    return echoed(loan.model.name, echoes, body.most_tokens or 0)


def _answer(loan: Loan[Lent], prepare: Callable[[], Prepared], body: GenerationBody, shape: OpenAIShape) -> Response:
    def wanted() -> Prepared:
        prepared = prepare()
        prepared = replace(prepared, body={**prepared.body, **STREAMED, **body.engine_fields})
        return loan.model.times(prepared, body.n) if body.n > 1 else prepared

    return (Streamed if body.stream else Gathered)(loan, wanted, shape)


@router.post("/v1/embeddings", response_model=EmbeddingList)
async def create_embeddings(body: EmbeddingsBody, request: Request) -> dict[str, Any]:
    """Unit vectors, one a text."""
    with await lent(request, body.model) as loan:
        vectors = await embedded(loan, body.inputs, request)
    if body.dimensions:
        vectors = [shortened(vector, body.dimensions) for vector in vectors]
    shape = _base64 if body.encoding_format == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": shape(vector)} for i, vector in enumerate(vectors)]
    tokens = measured_of(request.scope).prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": loan.model.name, "data": data, "usage": usage}


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit numbers, as OpenAI's clients read them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


@router.delete("/v1/models/{name:path}")
async def delete_model(name: str, request: Request) -> Deleted:
    """Delete a model, or a name of one's own, from the store."""
    offered = offered_by(request)
    stored = await asyncio.to_thread(offered.find, name)
    await asyncio.to_thread(offered.delete, stored)
    return {"id": stored.name, "object": "model", "deleted": True}


@router.post("/v1/rerank", response_model=Ranking)
async def rerank(body: RerankBody, request: Request) -> dict[str, Any]:
    """Documents by closeness to a query, the closest first."""
    measured = measured_of(request.scope)
    with await lent(request, body.model) as loan:
        measured.model = loan.model.name
        asked = loan.model.ranking(body.query, body.texts, owner_of(request.scope), queue_of(request.scope))
        ranked = await patient(request, asked)
    results = [
        {"index": each.index, "relevance_score": each.score}
        | ({"document": {"text": body.texts[each.index]}} if body.return_documents else {})
        for each in ranked[: body.top_n]
    ]
    return {"object": "list", "model": loan.model.name, "results": results}
