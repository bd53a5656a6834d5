"""Whether the server lives and takes requests, and what it does."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from filbert.core.errors import Busy
from filbert.server.error_bodies import ErrorBody

router = APIRouter(responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}})


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> dict[str, str]:
    """Whether it takes requests: 429 while as many wait for each loaded model as may."""
    counts = [loaded.model.children.counts for loaded in request.app.state.offered.pool.loaded()]
    if counts and all(waiting >= request.app.state.options.queue for _, waiting in counts):
        raise Busy("All queues are full.", do="Ask again in a moment.")
    return {"status": "ready"}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Queue, time to the first token, tokens, speed and memory of each model, for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
