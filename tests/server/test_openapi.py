"""The server's description of itself: whole, valid, and true of what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from described import TINY, Described, document
from openapi_spec_validator import validate
from test_keys import routes

from filbert.server import scopes
from running_server import RunningServer

HELLO = [{"role": "user", "content": "Say hi."}]
TOOL = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"town": {"enum": ["Ulm"]}}, "required": ["town"]},
}
CHAT_TOOL = {"type": "function", "function": TOOL}
ANTHROPIC_TOOL = {"name": "weather", "input_schema": TOOL["parameters"]}
SHORT = {"max_tokens": 4}
OLLAMA_SHORT = {"options": {"num_predict": 4}}

CHAT, COMPLETION, RESPONSE, MESSAGE = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
ASKED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HELLO, **SHORT}),
    (CHAT, {"messages": HELLO, **SHORT, "stream_options": {"include_usage": True}}),
    (CHAT, {"messages": HELLO, **SHORT, "logprobs": True, "top_logprobs": 2}),
    (CHAT, {"messages": HELLO, "max_tokens": 60, "seed": 1, "tools": [CHAT_TOOL], "tool_choice": "required"}),
    (COMPLETION, {"prompt": "a", **SHORT}),
    (COMPLETION, {"prompt": "a", **SHORT, "logprobs": 2}),
    (COMPLETION, {"prompt": "a", **SHORT, "echo": True}),
    (COMPLETION, {"prompt": "a", **SHORT, "n": 2, "stream_options": {"include_usage": True}}),
    (RESPONSE, {"input": "Say hi.", **SHORT}),
    (RESPONSE, {"input": "Say hi.", **SHORT, "top_logprobs": 1, "store": False, "metadata": {"a": "b"}}),
    (
        RESPONSE,
        {
            "input": "Hi",
            "max_tokens": 60,
            "seed": 1,
            "tools": [{"type": "function", **TOOL}],
            "tool_choice": "required",
        },
    ),
    (MESSAGE, {"messages": HELLO, **SHORT}),
    (
        MESSAGE,
        {"messages": HELLO, "max_tokens": 60, "seed": 1, "tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}},
    ),
    ("/api/chat", {"messages": HELLO, **OLLAMA_SHORT}),
    ("/api/chat", {"messages": HELLO, **OLLAMA_SHORT, "logprobs": True, "top_logprobs": 1}),
    ("/api/chat", {"messages": []}),
    ("/api/generate", {"prompt": "a", **OLLAMA_SHORT}),
]
ONCE: list[tuple[str, dict[str, Any]]] = [
    (COMPLETION, {"prompt": ["a", "b"], "echo": True, "logprobs": 2, "max_tokens": 1, "temperature": 0}),
    ("/v1/embeddings", {"input": ["a", "b"]}),
    ("/v1/embeddings", {"input": "a", "encoding_format": "base64"}),
    ("/v1/messages/count_tokens", {"messages": HELLO}),
    ("/api/embed", {"input": "a"}),
    ("/api/embeddings", {"prompt": "a"}),
    ("/api/show", {"verbose": True}),
]
WRONG = ["/v1/rerank", *dict([*ASKED, *ONCE])]


DESCRIBED = Described(document())
SCHEMAS = DESCRIBED.document["components"]["schemas"]


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DESCRIBED.document["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in methods.items())


def body_of(operation: dict[str, Any]) -> str:
    reference: str = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return reference.rpartition("/")[2]


def test_the_server_answers_it(quick: RunningServer) -> None:
    assert quick.http.get("/openapi.json").json() == DESCRIBED.document


def test_the_document_is_valid() -> None:
    validate(DESCRIBED.document)


def test_it_lists_each_route_and_no_other() -> None:
    table = {f"{method} {path}".replace(":path}", "}") for method, path in routes() if method != "HEAD"}
    assert {name for name, _ in operations()} == table


def test_each_operation_has_a_name_of_its_own_a_tag_and_says_what_it_does() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(set(ids)) == len(ids) and all(name.isidentifier() for name in ids)
    tags = {tag["name"] for tag in DESCRIBED.document["tags"]}
    for name, operation in operations():
        assert operation["description"] and len(operation["tags"]) == 1 and set(operation["tags"]) <= tags, name


def test_each_operation_says_which_key_it_needs() -> None:
    for name, operation in operations():
        scope = "admin" if name in {route.replace(":path}", "}") for route in scopes.ADMIN} else "infer"
        keys = [] if name in ("GET /health", "GET /ready") else [{"bearer": [scope]}, {"x-api-key": [scope]}]
        assert [key for key in operation.get("security", []) if key] == keys, name


def test_each_answer_has_a_schema() -> None:
    for name, operation in operations():
        for status, answer in operation["responses"].items():
            for kind in DESCRIBED.resolved(answer).get("content", {}).values():
                assert kind["schema"], (name, status)


def test_schemas_have_names_that_make_good_classes() -> None:
    assert [name for name in SCHEMAS if not name.isalnum()] == []


def test_fields_are_described_as_clients_may_send_them() -> None:
    chat = SCHEMAS["ChatBody"]
    assert chat["properties"]["stop"]["type"] == ["string", "array"]
    assert chat["properties"]["logprobs"]["type"] == "boolean"
    assert chat["properties"]["top_k"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 1_000_000}
    assert chat["required"] == ["model", "messages"]
    assert "from_file" not in json.dumps(DESCRIBED.document)


EXAMPLES = [
    (*name.split(), example)
    for name, operation in operations()
    if "requestBody" in operation
    for example in SCHEMAS[body_of(operation)]["examples"]
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "example"), EXAMPLES)
def test_each_example_is_answered(quick: RunningServer, method: str, path: str, example: dict[str, Any]) -> None:
    if method == "DELETE":
        quick.http.post("/api/copy", json={"source": TINY, "destination": "gone"})
        example = {**example, "model": "gone"}
    answer = quick.http.request(method, path, json=example)
    DESCRIBED.check(method, path, answer)
    assert answer.status_code == (400 if path == "/v1/rerank" else 200), answer.text  # that model ranks nothing


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_an_answer_and_its_stream_are_as_described(quick: RunningServer, path: str, body: dict[str, Any]) -> None:
    kinds = set()
    for stream in (False, True):
        answer = quick.http.post(path, json={"model": TINY, "stream": stream, **body})
        assert answer.status_code == 200, answer.text
        DESCRIBED.check("POST", path, answer)
        kinds.add(answer.headers["content-type"])
    assert len(kinds) == 2 or body.get("messages") == []


@pytest.mark.parametrize("path", [CHAT, RESPONSE, MESSAGE, "/api/chat"])
def test_a_thought_is_told_as_described(quick: RunningServer, path: str) -> None:
    wish: dict[str, Any] = {"input": "Hi"} if path == RESPONSE else {"messages": HELLO}
    wish |= {"model": TINY, "max_tokens": 12, "think": True, "seed": 1, "options": {"num_predict": 12, "seed": 1}}
    for stream in (False, True):
        answer = quick.http.post(path, json={**wish, "stream": stream})
        assert (answer.status_code == 200 and "think" in answer.text) or "reasoning" in answer.text, answer.text
        DESCRIBED.check("POST", path, answer)


@pytest.mark.parametrize(("path", "body"), ONCE)
def test_other_answers_are_as_described(quick: RunningServer, path: str, body: dict[str, Any]) -> None:
    answer = quick.http.post(path, json={"model": TINY, **body})
    assert answer.status_code == 200, answer.text
    DESCRIBED.check("POST", path, answer)


def test_what_is_read_is_as_described(quick: RunningServer) -> None:
    for name, operation in operations():
        if name.startswith("GET ") and "parameters" not in operation:
            answer = quick.http.get(name[4:])
            assert answer.status_code == 200, name
            DESCRIBED.check("GET", name[4:], answer)
    for path, anthropic in (("/v1/models", False), ("/v1/models", True), ("/v1/models/{name}", True)):
        headers = {"anthropic-version": "2023-06-01"} if anthropic else {}
        DESCRIBED.check("GET", path, quick.http.get(path.format(name=TINY), headers=headers))


def test_a_response_that_was_kept_is_as_described(quick: RunningServer) -> None:
    items = [{"role": "user", "content": "Hi"}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}]
    made = quick.http.post(RESPONSE, json={"model": TINY, "input": items, **SHORT}).json()
    one = "/v1/responses/{response_id}"
    for method, path, status in (
        ("GET", one, 200),
        ("GET", f"{one}/input_items", 200),
        ("POST", f"{one}/cancel", 400),
        ("DELETE", one, 200),
        ("GET", one, 404),
    ):
        answer = quick.http.request(method, path.format(response_id=made["id"]))
        assert answer.status_code == status
        DESCRIBED.check(method, path, answer)


@pytest.mark.parametrize("path", WRONG)
def test_what_goes_wrong_is_told_as_described(quick: RunningServer, path: str) -> None:
    whole = (dict(ASKED) | dict(ONCE)).get(path, {"query": "a", "documents": ["b"]})
    for body, status in (
        ({**whole, "model": "nothing"}, 404),
        ({**whole, "model": 1}, 400),
        ([], 400),
        ({**whole, "model": "x" * (17 << 20)}, 413),
    ):
        answer = quick.http.post(path, json=body)
        assert answer.status_code == status, answer.text[:500]
        DESCRIBED.check("POST", path, answer)
