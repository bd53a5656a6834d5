"""Filbert's errors in the shape of the protocol that was spoken: OpenAI's, Anthropic's or Ollama's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from filbert.core.errors import (
    BadAnswer,
    BadInput,
    Busy,
    DiskFull,
    EngineError,
    EngineFailed,
    FilbertError,
    NoRoom,
    NotReady,
    StoreReadOnly,
    UpstreamError,
)
from filbert.core.log import log

OPENAI_CODES = {"unknown_model": "model_not_found", "context_overflow": "context_length_exceeded"}
OF_DISKS: dict[type[FilbertError], str] = {
    DiskFull: "The server's disk is full. Free some room there, and ask again to go on.",
    StoreReadOnly: "The server cannot write to its store. Its log file says more.",
}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Problem(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str


class ErrorBody(BaseModel):
    """What every answer of OpenAI's routes that is no success holds."""

    error: Problem


class AnthropicProblem(BaseModel):
    type: str
    message: str


class AnthropicErrorBody(BaseModel):
    """What every answer of Anthropic's routes that is no success holds."""

    type: Literal["error"] = "error"
    error: AnthropicProblem


class OllamaErrorBody(BaseModel):
    """What every answer of Ollama's routes that is no success holds."""

    error: str


def openai_error(error: FilbertError, param: str | None = None) -> dict[str, Any]:
    """param: the field that is wrong."""
    kind = "invalid_request_error" if error.http_status < 500 else "server_error"
    code = OPENAI_CODES.get(error.code, error.code)
    return ErrorBody(error=Problem(message=_message(error), type=kind, param=param, code=code)).model_dump()


def anthropic_error(error: FilbertError, status: int | None = None) -> dict[str, Any]:
    """status: where it is not the error's own."""
    status = status or error.http_status
    kind = ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return AnthropicErrorBody(error=AnthropicProblem(type=kind, message=_message(error))).model_dump()


def ollama_error(error: FilbertError) -> dict[str, Any]:
    return OllamaErrorBody(error=_message(error)).model_dump()


def _message(error: FilbertError) -> str:
    """An engine's own words, those of a disk, and of another server stay in our log: they may name files and hosts.
    What may have been said to a model, or by it, does not stand there."""
    if isinstance(error, BadAnswer) or not isinstance(error, EngineError | DiskFull | StoreReadOnly | UpstreamError):
        return str(error)
    told = OF_DISKS.get(type(error)) or f"{error.what} {error.do}"
    log.warning("%s", told if isinstance(error, EngineFailed) else error)
    return told


def error_answer(
    error: FilbertError, scope: Scope, param: str | None = None, status: int | None = None
) -> JSONResponse:
    """scope: of the request, whose route tells the protocol; status: where it is not the error's own."""
    path = scope["path"]
    if path.startswith("/api/"):
        body = ollama_error(error)
    elif path.startswith("/v1/messages") or speaks_anthropic(scope):
        body = anthropic_error(error, status)
    else:
        body = openai_error(error, param)
    later = {"retry-after": str(error.retry_after_s)} if isinstance(error, Busy | NotReady | NoRoom) else None
    return JSONResponse(body, status or error.http_status, later)


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a client of Anthropic's asks: /v1/models is a route of both protocols."""
    return "anthropic-version" in Headers(scope=scope)


async def say_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FilbertError)
    return error_answer(error, request.scope)


async def say_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body that is not as the route's schema wants it: what is wrong deepest in it, where it was read furthest."""
    assert isinstance(error, RequestValidationError)
    problem = max(error.errors(), key=lambda problem: len(problem["loc"]))
    if problem["type"] == "json_invalid":
        broken = BadInput("The body is no JSON.", why=f"{problem['ctx']['error']}.", do="Send JSON.")
        return error_answer(broken, request.scope)
    param = ".".join(_path(problem, error.body))
    what = f"{param} is not as it should be." if param else "The body is no JSON object."
    why = problem["msg"].removeprefix("Value error, ")
    wrong = BadInput(what, why=f"{why}.", do="/openapi.json says what each route takes.")
    return error_answer(wrong, request.scope, param or None)


def _path(problem: Mapping[str, Any], body: object) -> Iterator[str]:
    """Where in the body; pydantic's own words for the branches of a union ("str", "list[Part]") are no part of it."""
    for part in problem["loc"][1:]:
        found = isinstance(body, dict | list) and part in (body if isinstance(body, dict) else range(len(body)))
        if found or problem["loc"][0] == "query" or (problem["type"] == "missing" and part == problem["loc"][-1]):
            yield str(part)
        if found:
            body = body[part]  # type: ignore[index]


async def say_http(request: Request, error: Exception) -> JSONResponse:
    """No such route, or not by this method."""
    assert isinstance(error, HTTPException)
    unknown = BadInput(f"{request.method} {request.url.path}: {error.detail}.", do="/openapi.json lists all.")
    answer = error_answer(unknown, request.scope, status=error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def say_fault(request: Request, error: Exception) -> JSONResponse:
    log.error("fault", exc_info=error)
    fault = FilbertError("Filbert hit a fault of its own.", do="Its log file says more.")
    return error_answer(fault, request.scope)
