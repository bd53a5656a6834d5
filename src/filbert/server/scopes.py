"""What a key of each scope may do: the one table of it. A route in none of the sets is there for admins only."""

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
        "GET /tokenizer_info",
        "POST /tokenize",
        "POST /detokenize",
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
ADMIN = frozenset(
    {
        "GET /metrics",
        "DELETE /v1/models/{name:path}",
        "POST /api/pull",
        "POST /api/create",
        "POST /api/copy",
        "DELETE /api/delete",
    }
)
PATTERNS = {route: compile_path(route.partition(" ")[2])[0] for route in INFER | ADMIN if "{" in route}


@cache
def _patterns(method: str) -> tuple[str, ...]:
    return tuple(route for route in PATTERNS if route.startswith(f"{method} "))


def _is_in(table: frozenset[str], method: str, path: str) -> bool:
    patterns = (route for route in _patterns(method) if route in table)
    return f"{method} {path}" in table or any(PATTERNS[route].fullmatch(path) for route in patterns)


def is_known(method: str, path: str) -> bool:
    """Whether there is such a route, as far as others than admins are told."""
    return any(_is_in(table, method, path) for table in (OPEN, INFER, ADMIN))


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None for what everybody may ask."""
    if _is_in(OPEN, method, path):
        return None
    return "infer" if _is_in(INFER, method, path) else "admin"
