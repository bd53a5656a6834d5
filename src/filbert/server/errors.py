"""Filbert's errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from filbert.core.errors import FilbertError


def error_body(error: FilbertError) -> dict[str, Any]:
    kind = "invalid_request_error" if error.http_status < 500 else "server_error"
    return {"error": {"message": str(error), "type": kind, "param": None, "code": error.code}}


def error_answer(error: FilbertError) -> JSONResponse:
    return JSONResponse(error_body(error), error.http_status)
