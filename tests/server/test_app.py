"""The application's description of itself."""

from __future__ import annotations

from typing import Any

from fastapi.openapi.models import OpenAPI
from running_server import RunningServer


def test_the_openapi_document_is_valid_and_each_reference_leads_somewhere(server: RunningServer) -> None:
    document = server.http.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_the_openapi_document_names_the_routes_and_what_goes_wrong(server: RunningServer) -> None:
    document = server.http.get("/openapi.json").json()
    assert set(document["paths"]) > {
        "/api/chat",
        "/health",
        "/metrics",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/models/{name}",
    }
    for path in document["paths"].values():
        for operation in path.values():
            assert {"200", "4XX", "5XX"} == set(operation["responses"])


def test_fields_are_described_as_clients_may_send_them(server: RunningServer) -> None:
    schemas = server.http.get("/openapi.json").json()["components"]["schemas"]
    chat = schemas["ChatBody"]["properties"]
    assert chat["stop"]["type"] == ["string", "array"]
    assert chat["logprobs"]["type"] == "boolean"
    assert schemas["ChatBody"]["required"] == ["model", "messages"]


def references(node: Any) -> list[str]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    own = [node["$ref"]] if isinstance(node, dict) and "$ref" in node else []
    return own + [found for child in children for found in references(child)]
