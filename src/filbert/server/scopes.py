"""What a key of each scope may do: the one table of it. A route that is in neither set is for admin keys only."""

from __future__ import annotations

from functools import cache

from starlette.routing import compile_path

from filbert.server.keys import Scope

OPEN = frozenset({"GET /health", "GET /ready"})
INFER = frozenset(
    {
        "GET /",
        "HEAD /",
        "GET /openapi.json",
        "GET /v1/models",
        "GET /v1/models/{name:path}",
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/embeddings",
        "POST /v1/rerank",
        "POST /v1/responses",
        "GET /v1/responses/{response_id}",
        "DELETE /v1/responses/{response_id}",
        "GET /v1/responses/{response_id}/input_items",
        "POST /v1/responses/{response_id}/cancel",
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
        "GET /api/version",
        "GET /api/tags",
        "GET /api/ps",
        "POST /api/show",
        "POST /api/chat",
        "POST /api/generate",
        "POST /api/embed",
        "POST /api/embeddings",
    }
)
PATTERNS = {route: compile_path(route.partition(" ")[2])[0] for route in INFER if "{" in route}


@cache
def _patterns(method: str) -> tuple[str, ...]:
    return tuple(route for route in PATTERNS if route.startswith(f"{method} "))


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None for what everybody may ask."""
    asked = f"{method} {path}"
    if asked in OPEN:
        return None
    if asked in INFER or any(PATTERNS[route].fullmatch(path) for route in _patterns(method)):
        return "infer"
    return "admin"
