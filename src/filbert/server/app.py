"""The HTTP application: the door, the routes, errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException

from filbert.core.errors import FilbertError
from filbert.server import error_bodies
from filbert.server.door import Door, Turnstile
from filbert.server.entry import entry_of
from filbert.server.fetched_images import ImageFetcher
from filbert.server.key_ring import KeyRing
from filbert.server.keys import Keys
from filbert.server.metrics import Metrics
from filbert.server.offered import Offered
from filbert.server.readiness import Readiness
from filbert.server.response_store import ResponsesInMemory, ResponsesOnDisk, ResponseStore
from filbert.server.routes import anthropic, health, ollama, ollama_models, openai, responses, tokens
from filbert.server.serve_options import ServeOptions
from filbert.server.traced import Traced
from filbert.version import __version__

DISK_THREADS = 32  # they look into the store; what waits for a model has its own
SWEEP_MODELS_S = 1.0
SWEEP_STORE_S = 5.0
SWEEP_RESPONSES_S = 60.0


@asynccontextmanager
async def sweeping(sweep: Callable[[], None], every_s: float) -> AsyncIterator[None]:
    """Meanwhile what stayed long enough goes: models that nobody asked or that are gone, responses that were kept."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(sweep)

    task = asyncio.create_task(go_on())
    yield
    task.cancel()


def make_app(
    offered: Offered,
    options: ServeOptions,
    readiness: Readiness | None = None,
    meanwhile: AbstractAsyncContextManager[None] | None = None,
    fetcher: ImageFetcher | None = None,
) -> FastAPI:
    """The application over models, which it closes when it ends. meanwhile: what goes on beside it; fetcher: of images,
    in the place of the usual."""
    readiness = readiness or Readiness()
    entry, key_ring = entry_of(options), KeyRing(Keys())
    kept: ResponseStore = ResponsesOnDisk() if options.keep_responses else ResponsesInMemory()
    fetcher = fetcher or (ImageFetcher() if options.fetch_images else None)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(DISK_THREADS, "filbert-serve"))
        async with (
            sweeping(offered.pool.sweep, SWEEP_MODELS_S),
            sweeping(offered.sweep, SWEEP_STORE_S),
            sweeping(kept.sweep, SWEEP_RESPONSES_S),
            key_ring.keeping(),
            offered.upstreams.looked_after(),
            meanwhile or nullcontext(),
        ):
            yield
        kept.close()
        if fetcher:
            fetcher.close()
        offered.close()  # first: the loop waits for its threads, and they wait for workers

    app = FastAPI(
        title="Filbert",
        version=__version__,
        lifespan=life,
        openapi_url=None,  # routes/health.py
        strict_content_type=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.offered, app.state.options = offered, options
    app.state.responses, app.state.readiness = kept, readiness
    app.state.image_fetcher = fetcher
    app.state.metrics = metrics = Metrics(offered)
    app.include_router(health.router)
    app.include_router(openai.router)
    app.include_router(tokens.router)
    app.include_router(responses.router)
    app.include_router(anthropic.router)
    app.include_router(ollama.router)
    app.include_router(ollama_models.router)
    app.add_exception_handler(FilbertError, error_bodies.say_error)
    app.add_exception_handler(RequestValidationError, error_bodies.say_invalid)
    app.add_exception_handler(HTTPException, error_bodies.say_http)
    app.add_exception_handler(Exception, error_bodies.say_fault)
    app.add_middleware(Turnstile, entry=entry, key_ring=key_ring)
    if options.allow_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.allow_origin,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id"],
        )
    app.add_middleware(Door, entry=entry, readiness=readiness)
    app.add_middleware(Traced, metrics=metrics)  # the last is the outermost
    return app
