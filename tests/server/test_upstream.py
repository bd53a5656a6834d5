"""One other server, asked without a gateway before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from filbert.core.messages import Message
from filbert.engine.sampling import Sampling
from filbert.server.upstreams.model import RemoteModel
from filbert.server.upstreams.options import UpstreamOptions
from filbert.server.upstreams.upstream import MOST_LIST, Upstream
from other_server import OtherServer, begin, delta, event, other_server, says_hi

CERTIFICATE = Path(__file__).parent.parent / "models" / "localhost.pem"


def looked_at(url: str) -> Upstream:
    async def look() -> Upstream:
        upstream = Upstream("box", UpstreamOptions(url=url))
        await upstream.check()
        await upstream.close()
        return upstream

    return asyncio.run(look())


def told(other: OtherServer, **fields: Any) -> list[dict[str, Any]]:
    """The events of an answer."""

    async def ask() -> bytes:
        upstream = Upstream("box", UpstreamOptions(url=other.url))
        model = RemoteModel(upstream, "hi")
        prepared = model.prepare_chat([Message("user", "x" * 400)], Sampling())
        async with model.answering(model.times(prepared, fields["n"]) if "n" in fields else prepared) as answer:
            found = b"".join([piece async for piece in answer.body()])
        await upstream.close()
        return found

    lines = [line[6:] for line in asyncio.run(ask()).split(b"\n\n") if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def test_certificates_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with other_server(says_hi, "hi", certificate=CERTIFICATE) as other:
        url = f"https://localhost:{other.port}/v1"
        assert "CERTIFICATE_VERIFY_FAILED" in looked_at(url).trouble
        assert other.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert looked_at(url).models == ("hi",)


def test_no_proxy_hears_what_is_not_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    with other_server(says_hi) as proxy, other_server(says_hi, "hi") as other:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert looked_at(other.url).models == ("hi",)
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("page", "trouble"),
    [
        (b"<html>", "list of models is none"),
        ({"data": [{"id": 7}]}, "list of models is none"),
        (b" " * (MOST_LIST + 1), "more than 4 MiB"),
    ],
    ids=["no JSON", "no ids", "no end"],
)
def test_a_list_that_is_none_is_trouble(page: Any, trouble: str) -> None:
    with other_server(says_hi) as other:
        other.models = page
        upstream = looked_at(other.url)
    assert trouble in upstream.trouble
    assert upstream.models is None


def test_of_a_list_only_plain_names_of_its_own_models_are_taken() -> None:
    rows = [{"id": "org/one"}, {"id": "two\nlines"}, {"id": "x" * 999}, {"id": "far/away", "remote": True}, {"id": "b"}]
    with other_server(says_hi) as other:
        other.models = {"data": rows}
        upstream = looked_at(other.url)
    assert upstream.models == ("org/one", "b")
    assert not upstream.is_filbert


def test_what_a_server_leaves_out_is_estimated() -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        begin(to)
        for piece in ("a", "b", "c"):
            event(to, delta(content=piece))
        event(to, delta("stop"))  # and no usage, and no [DONE]

    with other_server(answer) as other:
        last = told(other)[-1]
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (100, 3)
    assert last["timings"]["predicted_n"] == 3


def several(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    for index in (0, 1):
        piece = delta("stop", content=f"answer {index}")
        piece["choices"][0]["index"] = index
        event(to, piece)


def nameless_thought(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    event(to, delta(reasoning="hm"))  # as vLLM and OpenRouter write it
    event(to, delta("content_filter", content="No."))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (several, [(0, {"content": "answer 0"}), (0, {}), (1, {"content": "answer 1"}), (1, {})]),
        (nameless_thought, [(0, {"reasoning_content": "hm"}), (0, {"content": "No."}), (0, {})]),
    ],
)
def test_answers_are_told_as_a_worker_tells_them(answer: Callable[..., None], said: list[Any]) -> None:
    with other_server(answer) as other:
        choices = [each["choices"][0] for each in told(other, n=2) if each["choices"]]
    assert [(each["index"], each["delta"]) for each in choices] == said
    assert choices[-1]["finish_reason"] == "stop"
