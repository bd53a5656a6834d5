"""Filbert's errors in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from filbert.core.errors import BadInput, EngineError, FilbertError
from filbert.core.log import log

OPENAI_CODES = {"unknown_model": "model_not_found", "context_overflow": "context_length_exceeded"}


class Problem(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str


class ErrorBody(BaseModel):
    """What every answer that is no success holds."""

    error: Problem


def error_body(error: FilbertError, param: str | None = None) -> dict[str, Any]:
    """An engine's own words stay in our log: they may name files."""
    kind = "invalid_request_error" if error.http_status < 500 else "server_error"
    code = OPENAI_CODES.get(error.code, error.code)
    message = str(error)
    if isinstance(error, EngineError):
        log.warning("%s", error)
        message = f"{error.what} {error.do}"
    return ErrorBody(error=Problem(message=message, type=kind, param=param, code=code)).model_dump()


def error_answer(error: FilbertError, param: str | None = None) -> JSONResponse:
    return JSONResponse(error_body(error, param), error.http_status)


async def say_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FilbertError)
    return error_answer(error)


async def say_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body that is not as the route's schema wants it: what is wrong deepest in it, where it was read furthest."""
    assert isinstance(error, RequestValidationError)
    problem = max(error.errors(), key=lambda problem: len(problem["loc"]))
    if problem["type"] == "json_invalid":
        return error_answer(BadInput("The body is no JSON.", why=f"{problem['ctx']['error']}.", do="Send JSON."))
    param = ".".join(_path(problem, error.body))
    what = f"{param} is not as it should be." if param else "The body is no JSON object."
    why = problem["msg"].removeprefix("Value error, ")
    return error_answer(BadInput(what, why=f"{why}.", do="/openapi.json says what each route takes."), param or None)


def _path(problem: Mapping[str, Any], body: object) -> Iterator[str]:
    """Where in the body; pydantic's own words for the branches of a union ("str", "list[Part]") are no part of it."""
    for part in problem["loc"][1:]:
        found = isinstance(body, dict | list) and part in (body if isinstance(body, dict) else range(len(body)))
        if found or (problem["type"] == "missing" and part == problem["loc"][-1]):
            yield str(part)
        if found:
            body = body[part]  # type: ignore[index]


async def say_http(request: Request, error: Exception) -> JSONResponse:
    """No such route, or not by this method."""
    assert isinstance(error, HTTPException)
    answer = error_answer(
        BadInput(f"{request.method} {request.url.path}: {error.detail}.", do="/openapi.json lists all.")
    )
    answer.status_code = error.status_code
    answer.headers.update(error.headers or {})
    return answer


async def say_fault(request: Request, error: Exception) -> JSONResponse:
    log.error("fault", exc_info=error)
    return error_answer(FilbertError("Filbert hit a fault of its own.", do="Its log file says more."))
