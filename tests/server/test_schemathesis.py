"""Requests made from `/openapi.json`, such as it wants and such as it does not: a real server answers each as described,
and never by a fault. FILBERT_EXAMPLES=100 tries longer."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
import schemathesis
from described import TINY, Described, document
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from running_server import RunningServer

EXAMPLES = int(os.environ.get("FILBERT_EXAMPLES", "4"))
TOKENS = 2
SHORT_BY = {  # where a client says how long an answer may be
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_completion_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}
DESCRIBED = Described(document())
# Fields that nobody describes are ignored: without them more is tried of those that are read.
OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_dict(
        {**DESCRIBED.document, "components": DESCRIBED.components}
    ).get_all_operations()
]
WITH_INPUT = [found for found in OPERATIONS if found.body or found.path_parameters or found.query]
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def shortened(body: Any, path: str) -> Any:
    """The same of the model that is there, for a few tokens, where it is whole enough to be answered at all."""
    if not isinstance(body, dict) or path in ("/api/pull", "/api/delete"):
        return body
    named = {field: TINY for field in ("model", "source", "from") if isinstance(body.get(field), str)}
    if path == "/api/create":
        named.pop("model", None)
    if path in SHORT_BY and isinstance(body.get(SHORT_BY[path]), int | None):
        named[SHORT_BY[path]] = TOKENS
    if path.startswith("/api/") and isinstance(body.get("options", {}), dict):
        named["options"] = {**body.get("options", {}), "num_predict": TOKENS, "num_ctx": None}
    return {**body, **named}


def ask(server: RunningServer, case: schemathesis.Case) -> httpx.Response:
    request = case.as_transport_kwargs(base_url=server.url)
    content = {"json": shortened(request["json"], case.path)} if "json" in request else {"content": request.get("data")}
    return server.http.request(request["method"], request["url"], params=request["params"], **content)


@pytest.mark.slow
@pytest.mark.parametrize("operation", WITH_INPUT, ids=lambda operation: operation.label)
def test_what_is_sent_as_described_is_answered_as_described(quick: RunningServer, operation: Any) -> None:
    @bounded
    @given(operation.as_strategy(GenerationMode.POSITIVE))
    def tried(case: schemathesis.Case) -> None:
        answer = ask(quick, case)
        assert answer.status_code < 500, answer.text
        DESCRIBED.check(case.method, case.path, answer)

    tried()


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation", [found for found in WITH_INPUT if found.body or found.query], ids=lambda operation: operation.label
)
def test_what_is_sent_otherwise_is_refused_as_described(quick: RunningServer, operation: Any) -> None:
    """Or answered: null is as good as left out, and "1" as 1."""

    @bounded
    @given(operation.as_strategy(GenerationMode.NEGATIVE))
    def tried(case: schemathesis.Case) -> None:
        answer = ask(quick, case)
        assert answer.status_code < 500, answer.text
        DESCRIBED.check(case.method, case.path, answer)

    tried()


def test_the_server_lives_and_has_no_worker_too_many(quick: RunningServer) -> None:
    body = {"model": TINY, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": TOKENS}
    assert quick.http.post("/v1/chat/completions", json=body).status_code == 200
    assert quick.http.get("/ready").status_code == 200
    assert len(quick.workers()) <= 3  # one that writes, one that embeds, one that scores
