"""Whether the server lives and takes requests, and what it does."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from filbert.core.errors import Busy
from filbert.server import openapi
from filbert.server.answers import Health, Readiness
from filbert.server.error_bodies import ErrorBody

router = APIRouter(tags=[openapi.SERVER], responses=openapi.refused(ErrorBody, *openapi.ANYWHERE))


@router.get("/openapi.json")
async def get_openapi(request: Request) -> dict[str, Any]:
    """This description."""
    return openapi.document(request.app)


@router.get("/health")
async def get_health() -> Health:
    """Whether the server answers."""
    return {"status": "ok"}


@router.get("/ready")
async def get_ready(request: Request) -> Readiness:
    """Whether it takes requests: 503 until it has loaded what it was started with, and when it is about to end; 429
    while as many wait for each loaded model as may."""
    request.app.state.readiness.check()
    counts = [loaded.model.children.counts for loaded in request.app.state.offered.pool.loaded()]
    if counts and all(waiting >= request.app.state.options.queue for _, waiting in counts):
        raise Busy("All queues are full.", do="Ask again in a moment.")
    return {"status": "ready"}


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """Queue, time to the first token, tokens, speed and memory of each model, for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
