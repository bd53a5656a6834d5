"""What `/openapi.json` says: made of the routes, of their bodies and answers, and of the table of scopes."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from filbert.core.errors import every_kind
from filbert.server import scopes
from filbert.server.keys import Scope

Responses = dict[int | str, dict[str, Any]]

SERVER, OPENAI, RESPONSES, ANTHROPIC, OLLAMA = "Server", "OpenAI", "Responses", "Anthropic", "Ollama"
TAGS = {
    SERVER: "Whether the server lives and takes requests, and what it does.",
    OPENAI: "OpenAI's protocol: models, chat, completions, embeddings; and rerank, as Jina and Cohere have it.",
    RESPONSES: "OpenAI's newer route: answers that are kept, and gone on from.",
    ANTHROPIC: "Anthropic's protocol. `GET /v1/models` answers in its shape to whoever sends `anthropic-version`.",
    OLLAMA: "Ollama's protocol.",
}
ABOUT = """Models on this machine, by the protocols that programs speak already.

Fields that are not described here are ignored, and null is as good as left out. What a request leaves out is as the
server's settings have it, else as the model's file recommends."""
KEYS = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `filbert keys add`. Its scope is `infer`, or `admin`, which may do what `infer` may. "
        "On its own machine a server asks for none, unless it was started with --require-key.",
    },
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same key, where Anthropic's clients put it.",
    },
}
ANYWHERE = (400, 401, 403, 408, 413, 429, 500, 503)
OF_MODELS = (404, 422, 504)
OF_DOWNLOADS = (502,)
OF_DISKS = (507,)
OF_OUR_OWN = frozenset({"also", "from_file", "short", "flag"})  # of fields that are flags, too
REFERENCE = "#/components/schemas/{model}"


def refused(body: type[BaseModel], *statuses: int) -> Responses:
    """Answers that are no success, as a route declares them."""
    return {status: {"model": body, "description": _reasons(status)} for status in sorted(statuses)}


def _reasons(status: int) -> str:
    codes = sorted({f"`{kind.code}`" for kind in every_kind() if kind.http_status == status})
    return f"{HTTPStatus(status).phrase}: {', '.join(codes)}."


def streamed(media_type: str, event: Any, how: str) -> Responses:
    """The answer of a route that streams where it is asked to. event: the type of one of the stream's documents."""
    schema = TypeAdapter(event).json_schema(ref_template=REFERENCE, mode="serialization")
    return {200: {"description": how, "content": {media_type: {"schema": schema}}}}


def document(app: FastAPI) -> dict[str, Any]:
    """Made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=ABOUT,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        separate_input_output_schemas=False,
    )
    shared: dict[str, Any] = {}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _secure(operation, scopes.needed(method.upper(), path))
            if not {"parameters", "requestBody"} & operation.keys():  # it names no model
                _drop(operation, *OF_MODELS)
            answers = sorted(operation["responses"].items())
            operation["responses"] = {status: _shared(operation, status, answer, shared) for status, answer in answers}
    made["components"] |= {"responses": dict(sorted(shared.items())), "securitySchemes": KEYS}
    schemas = made["components"]["schemas"]
    _hoist(made["paths"], schemas)
    made["components"]["schemas"] = dict(sorted(schemas.items()))
    tidied: dict[str, Any] = _tidied(made)
    return tidied


def _secure(operation: dict[str, Any], scope: Scope | None) -> None:
    if scope:
        operation["security"] = [{}, *({name: [scope]} for name in KEYS)]
    else:
        _drop(operation, 401)


def _drop(operation: dict[str, Any], *statuses: int) -> None:
    for status in statuses:
        operation["responses"].pop(str(status), None)


def _shared(operation: dict[str, Any], status: str, answer: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """What goes wrong is told in the same words on each route of a protocol: it stands in the document once."""
    if status < "400":
        return answer
    name = f"{operation['tags'][0]}{status}"
    shared[name] = answer
    return {"$ref": f"#/components/responses/{name}"}


def _hoist(node: Any, schemas: dict[str, Any]) -> None:
    """Put definitions that stand beside an event's schema where all are."""
    if isinstance(node, dict):
        schemas.update(node.pop("$defs", {}))
    for child in _children(node):
        _hoist(child, schemas)


def _tidied(node: Any) -> Any:
    """Without what only our command line reads of a field, and titles that repeat its name; ranges of whole numbers as
    whole numbers."""
    if isinstance(node, list):
        return [_tidied(child) for child in node]
    if not isinstance(node, dict):
        return int(node) if isinstance(node, float) and node.is_integer() else node
    tidied = {key: _tidied(child) for key, child in node.items() if key not in OF_OUR_OWN}
    for field in (tidied.get("properties") or {}).values():
        field.pop("title", None)
    return tidied


def _children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
