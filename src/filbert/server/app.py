"""The HTTP application: models by name, routes, errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from filbert.core.errors import BadInput, FilbertError
from filbert.engine.model import Model
from filbert.engine.options import LoadOptions
from filbert.models import store
from filbert.server.errors import error_answer
from filbert.server.routes import openai
from filbert.version import __version__


class Loaded:
    """The models in use, each loaded when it is first named. The Serve issue gives them a budget."""

    def __init__(self, load: LoadOptions) -> None:
        self._load = load
        self._models: dict[str, Model] = {}
        self._loading = asyncio.Lock()

    async def get(self, name: str) -> Model:
        """Raises UnknownModel with the nearest names; never another model."""
        async with self._loading:
            if name not in self._models:
                model = Model(await asyncio.to_thread(store.installed, name), self._load)
                await asyncio.to_thread(model.wait_until_loaded)
                self._models[name] = model
            return self._models[name]

    async def close(self) -> None:
        for model in self._models.values():
            await asyncio.to_thread(model.close)


def make_app(load: LoadOptions, warm: tuple[str, ...] = ()) -> FastAPI:
    """The application; the models named `warm` are loaded before it answers."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.loaded = Loaded(load)
        try:
            for name in warm:
                await app.state.loaded.get(name)
            yield
        finally:
            await app.state.loaded.close()

    app = FastAPI(title="Filbert", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.include_router(openai.router)
    app.add_exception_handler(FilbertError, _say_error)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    # A page that rebinds its name to 127.0.0.1 still sends that name (Ollama CVE-2024-28224).
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    return app


async def _say_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FilbertError)
    return error_answer(error)


async def _say_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"] if part != "body")
    return error_answer(BadInput(f"{where or 'The body'} is not as it should be.", why=f"{problem['msg']}."))
