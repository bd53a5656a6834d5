"""Ollama's routes that ask a model. Each request is rebuilt from the schemas of `bodies_ollama`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from filbert.engine.generation import Finish, Reply
from filbert.engine.model import STREAMED, Prepared
from filbert.engine.pool import Loan
from filbert.engine.tool_calls import CallReader, reader
from filbert.engine.tools import tool_use
from filbert.server import openapi
from filbert.server.answers_ollama import (
    OllamaChatPiece,
    OllamaEmbedding,
    OllamaEmbeddings,
    OllamaGeneratePiece,
    SpokenVersion,
)
from filbert.server.bodies_ollama import (
    AnswerBody,
    EmbedBody,
    GenerateBody,
    OldEmbeddingsBody,
    OllamaChatBody,
    RunBody,
)
from filbert.server.error_bodies import OllamaErrorBody
from filbert.server.json_route import JsonRoute, lent, offered_by
from filbert.server.lent import Lent
from filbert.server.measured import measured_of
from filbert.server.ollama_shape import LINES, Asked, OllamaShape, Put, as_message, as_response
from filbert.server.patience import patient
from filbert.server.response import Gathered, Streamed
from filbert.server.vectors import beginning, embedded, shortened

SPOKEN_VERSION = "0.12.11"  # of Ollama: clients ask it to know what they may send
router = APIRouter(
    tags=[openapi.OLLAMA],
    route_class=JsonRoute,
    responses=openapi.refused(OllamaErrorBody, *openapi.ANYWHERE, *openapi.OF_MODELS),
)
HOW = "Documents, one a line; without `stream` one document."
CHAT_STREAM = openapi.streamed(LINES, OllamaChatPiece | OllamaErrorBody, HOW)
GENERATE_STREAM = openapi.streamed(LINES, OllamaGeneratePiece | OllamaErrorBody, HOW)


@router.head("/", include_in_schema=False)
@router.get("/", response_class=PlainTextResponse)
async def get_root() -> str:
    """A line for people, and for clients that look whether something is here."""
    return "Filbert is running"


@router.get("/api/version")
async def ollama_version() -> SpokenVersion:
    """The version of Ollama whose API this is."""
    return {"version": SPOKEN_VERSION}


@router.post("/api/chat", response_model=OllamaChatPiece, responses=CHAT_STREAM)
async def ollama_chat(body: OllamaChatBody, request: Request) -> Response:
    """Answer a conversation; an empty one loads the model, or unloads it."""
    if not body.messages:
        return await _ready_or_gone(body, request, as_message)
    use = tool_use(body.given_tools())
    loan, asked = await _lent(body, request)

    def prepare() -> Prepared:
        return loan.model.prepare_chat(body.conversation(), body.sampling(), use)

    return _answer(loan, prepare, asked, body, as_message, reader(use))


@router.post("/api/generate", response_model=OllamaGeneratePiece, responses=GENERATE_STREAM)
async def ollama_generate(body: GenerateBody, request: Request) -> Response:
    """Answer a prompt, go on from it as it stands (`raw`), or write what stands before `suffix`."""
    if body.is_empty:
        return await _ready_or_gone(body, request, as_response)
    loan, asked = await _lent(body, request)

    def prepare() -> Prepared:
        if not (body.raw or body.suffix):
            return loan.model.prepare_chat(body.conversation(), body.sampling())
        return loan.model.prepare_text(body.prompt, body.sampling(), body.suffix)

    return _answer(loan, prepare, asked, body, as_response)


async def _lent(body: RunBody, request: Request) -> tuple[Loan[Lent], Asked]:
    began, offered = time.monotonic(), offered_by(request)
    context = body.options.context
    load = offered.pool.load.choosing(context=context) if context else None
    loan = await lent(request, body.model, load, body.keep_alive)
    return loan, Asked(body.model, began, time.monotonic() - began)


def _answer(
    loan: Loan[Lent],
    prepare: Callable[[], Prepared],
    asked: Asked,
    body: AnswerBody,
    put: Put,
    calls: CallReader | None = None,
) -> Response:
    def wanted() -> Prepared:
        prepared = prepare()
        return replace(prepared, body={**prepared.body, **STREAMED})

    return (Streamed if body.stream else Gathered)(loan, wanted, OllamaShape(asked, put, calls))


async def _ready_or_gone(body: AnswerBody, request: Request, put: Put) -> Response:
    """Load a model, or with a keep_alive of 0 unload it."""
    asked, reason = Asked(body.model, time.monotonic(), 0), "unload"
    if body.keep_alive == 0:
        await asyncio.to_thread(offered_by(request).let_go, body.model)
    else:
        loan, asked = await _lent(body, request)
        loan.give_back()
        reason = "load"
    nothing = put(Reply("", Finish("stop")))
    return JSONResponse(asked.document(**nothing, done=True, done_reason=reason))


@router.post("/api/embed", response_model=OllamaEmbeddings)
async def ollama_embed(body: EmbedBody, request: Request) -> dict[str, Any]:
    """Unit vectors, one a text."""
    loan, asked = await _lent(body, request)
    with loan:
        texts = await patient(request, loan.model.waited(lambda: _fitting(loan.model, body)))
        vectors = await embedded(loan, texts, request)
    return {
        "model": body.model,
        "embeddings": [shortened(vector, body.dimensions) for vector in vectors] if body.dimensions else vectors,
        **asked.durations(),
        "prompt_eval_count": measured_of(request.scope).prompt_tokens,
    }


def _fitting(model: Lent, body: EmbedBody) -> list[str]:
    model.need_embeddings()
    return [beginning(model, text) for text in body.texts] if body.truncate else body.texts


@router.post("/api/embeddings")
async def ollama_embeddings(body: OldEmbeddingsBody, request: Request) -> OllamaEmbedding:
    """The vector of one text, as older clients ask for it."""
    loan, _ = await _lent(body, request)
    with loan:
        vectors = await embedded(loan, [body.prompt] if body.prompt else [], request)
    return {"embedding": vectors[0] if vectors else []}
