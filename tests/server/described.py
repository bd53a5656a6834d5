"""Holds what a server answers against what `/openapi.json` says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
from jsonschema import Draft202012Validator

from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.server import openapi
from filbert.server.app import make_app
from filbert.server.offered import Offered
from filbert.server.serve_options import ServeOptions

Document = dict[str, Any]
TINY = "smollm2:135m"  # as the examples call the model that they ask


def document() -> Document:
    """What this version answers to `GET /openapi.json`."""
    offered = Offered(Pool(LoadOptions()))
    try:
        return openapi.document(make_app(offered, ServeOptions()))
    finally:
        offered.close()


class Described:
    """What is not described is not answered: a field that an answer's schema does not name is wrong, too."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.components = closed(document["components"])

    def operation(self, method: str, path: str) -> Document:
        operation: Document = self.document["paths"][path][method.lower()]
        return operation

    def resolved(self, node: Document) -> Document:
        """What a reference stands for."""
        if "$ref" not in node:
            return node
        found = self.document
        for step in node["$ref"].split("/")[1:]:
            found = found[step]
        return found

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        told = self.operation(method, path)["responses"]
        assert str(answer.status_code) in told, answer.text
        content = self.resolved(told[str(answer.status_code)]).get("content", {})
        if not content:
            assert answer.content == b""
            return
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in content, answer.text
        for told_so in documents(kind, answer.text):
            schema = {**content[kind]["schema"], "components": self.components}
            errors = list(Draft202012Validator(schema).iter_errors(told_so))
            assert not errors, (jsonschema.exceptions.best_match(errors).message, told_so)


def documents(kind: str, text: str) -> Iterator[Any]:
    """Those of a stream, or the one."""
    if kind == "text/event-stream":
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        yield from (json.loads(event) for event in events if event != "[DONE]")
    elif kind == "application/x-ndjson":
        yield from map(json.loads, text.splitlines())
    else:
        yield json.loads(text) if kind == "application/json" else text


def closed(node: Any) -> Any:
    if isinstance(node, list):
        return [closed(child) for child in node]
    if not isinstance(node, dict):
        return node
    shut = {key: closed(child) for key, child in node.items()}
    return {"additionalProperties": False, **shut} if isinstance(shut.get("properties"), dict) else shut
