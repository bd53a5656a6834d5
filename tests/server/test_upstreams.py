"""Models of other servers beside our own: one that speaks as vLLM does and misbehaves on demand, and another Filbert."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from other_server import OtherServer, asks_for_a_tool, begin, delta, document, event, other_server, says_hi
from running import until
from running_server import STARTER, RunningServer, documents, sample, serving

KEY = "sk-the-key-of-the-other-server"
FLOOD_BYTES = 1 << 30
QUESTION = [{"role": "user", "content": "Say hi."}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}


def dies(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    event(to, delta(content="Hel"))


def hangs(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    event(to, delta(content="Hel"))
    to.rfile.read(1)  # until it is left


def talks(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    while True:  # until nobody hears it any more
        event(to, delta(content="x"))
        time.sleep(0.01)


def floods(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    to.wfile.write(b"data: ")
    for _ in range(FLOOD_BYTES >> 16):
        to.wfile.write(b"x" * (1 << 16))


def invents(to: BaseHTTPRequestHandler) -> None:
    """Events as the client of CVE-2025-64496 obeyed them."""
    begin(to)
    to.wfile.write(b"event: execute\n")
    event(to, {"event": {"type": "execute", "data": {"code": "alert(1)"}}, **delta(content="Hi", execute="alert(1)")})
    event(to, delta("stop"))
    event(to, b"[DONE]")


def broken_call(to: BaseHTTPRequestHandler) -> None:
    begin(to)
    call = {"index": 0, "id": "c", "function": {"name": "add", "arguments": "{no"}}
    event(to, delta("tool_calls", tool_calls=[call]))
    event(to, b"[DONE]")


def said(content: Any, status: int = 200, **headers: str) -> Any:
    return lambda to: document(to, content, status, **headers)


ANSWERS: dict[str, Any] = {
    "hi": says_hi,
    "calls": asks_for_a_tool,
    "dies": dies,
    "hangs": hangs,
    "talks": talks,
    "floods": floods,
    "invents": invents,
    "broken-call": broken_call,
    "no-answer": said(b"<html>"),
    "no-event": said({"choices": [{"index": 10**9}]}),
    "compressed": said(b"", content_encoding="gzip"),
    "no-key": said({"error": {"message": f"Not your key: {KEY}"}}, 401),
    "busy": said({"error": {"message": "wait"}}, 429),
    "fails": said(b"", 500),
    "refuses": said({"error": {"message": f"max_tokens is wrong {KEY}\n<b>"}}, 400),
    "whole": said({"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}),
}


class Played:
    """The other server, the gateway before it, and a third that nobody should be sent on to."""

    def __init__(self, other: OtherServer, target: OtherServer, gateway: RunningServer, home: Path) -> None:
        self.other, self.target, self.gateway, self.home = other, target, gateway, home

    def post(self, model: str, **fields: Any) -> httpx.Response:
        return self.gateway.post(model=f"other/{model}", **fields)


@pytest.fixture(scope="module")
def played(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """With a server that is down beside it, and another Filbert."""
    home = tmp_path_factory.mktemp("gateway")

    def answer(to: BaseHTTPRequestHandler) -> None:
        asked = other.asked[-1].body["model"]
        if asked == "goes-round":  # by whatever is between, it comes back
            there = httpx.post(
                f"{gateway.url}/v1/chat/completions",
                json={"model": "other/goes-round", "messages": QUESTION},
                headers={"via": to.headers["via"]},
            )
            document(to, there.json(), there.status_code)
        elif asked == "redirects":
            document(to, b"", 307, location=target.url + "/chat/completions")
        elif to.path.endswith("/embeddings"):
            document(to, {"data": [{"index": 0, "embedding": [3, 4]}], "usage": {"prompt_tokens": 2}})
        else:
            ANSWERS[asked](to)

    with other_server(answer, *ANSWERS, "goes-round", "redirects") as other, other_server(says_hi) as target:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            down = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        upstreams = {
            "other": {"url": other.url, "key_variable": "OTHER_KEY", "stall_s": 2},
            "down": {"url": down},
            "friend": {"url": server.url},
        }
        settings = {"FILBERT_SERVE_UPSTREAM": json.dumps(upstreams), "OTHER_KEY": KEY}
        with serving(home, **settings) as gateway:
            yield Played(other, target, gateway, home)


def test_every_list_of_models_says_which_are_remote(played: Played) -> None:
    http = played.gateway.http
    (shown,) = [each for each in http.get("/v1/models").json()["data"] if each["id"] == "other/hi"]
    assert (shown["owned_by"], shown["remote"], shown["status"]) == ("other", True, "up")
    assert http.get("/v1/models/other/hi").json() == shown
    theirs = http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()["data"]
    assert "other/hi (remote)" in [each["display_name"] for each in theirs]
    (tag,) = [each for each in http.get("/api/tags").json()["models"] if each["name"] == "other/hi"]
    assert (tag["remote_model"], tag["remote_host"]) == ("hi", "other")
    assert http.post("/api/show", json={"model": "other/hi"}).json()["remote_host"] == "other"
    assert http.delete("/v1/models/other/hi").status_code == 400
    assert played.post("nothing").status_code == 404


def test_an_answer_is_ours_in_shape_and_theirs_in_words(played: Played) -> None:
    answer = played.post("hi").json()
    assert answer["model"] == "other/hi"
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"]["total_tokens"] == 9
    with played.gateway.streaming(model="other/hi") as stream:
        *told, last = documents(stream.iter_lines())
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in told) == "Hello"
    assert {each["model"] for each in told} == {"other/hi"}
    assert "theirs" not in json.dumps(told) and "usage" not in last
    assert played.post("whole").json()["choices"][0]["message"]["content"] == "Hello"


def test_nothing_of_a_client_but_our_own_fields_reaches_the_other_server(played: Played) -> None:
    fields = {"temperature": 0.5, "top_k": 3, "metadata": {"a": 1}, "user": "me", "cache_prompt": True, "max_tokens": 9}
    body = {"model": "other/hi", "messages": QUESTION, "reasoning_effort": "low", **fields}
    headers = {"authorization": "Bearer sk-of-the-client", "x-api-key": "another", "cookie": "c=1", "x-secret": "s"}
    assert played.gateway.http.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    asked = played.other.posts[-1]
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert not {"x-api-key", "cookie", "x-secret"} & asked.headers.keys()
    assert "sk-of-the-client" not in str(asked)
    assert asked.body == {
        "model": "hi",
        "messages": QUESTION,
        "temperature": 0.5,
        "max_tokens": 9,
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_it_could_not_hold_to_is_refused_here(played: Played) -> None:
    refused = played.post("hi", grammar='root ::= "x"')
    assert refused.status_code == 400
    assert "on another server and cannot hold to a grammar" in refused.json()["error"]["message"]


def test_every_protocol_asks_remote_models(played: Played) -> None:
    http = played.gateway.http
    body: dict[str, Any] = {"model": "other/hi", "messages": QUESTION, "max_tokens": 8}
    message = http.post("/v1/messages", json=body).json()
    assert (message["content"][0]["text"], message["stop_reason"]) == ("Hello", "end_turn")
    assert message["usage"]["cache_read_input_tokens"] == 3
    with http.stream("POST", "/v1/messages", json={**body, "stream": True}) as stream:
        assert '"text_delta", "text": "lo"' in stream.read().decode()
    response = http.post("/v1/responses", json={"model": "other/hi", "input": "Say hi.", "truncation": "auto"}).json()
    assert response["output"][0]["content"][0]["text"] == "Hello"
    chat = http.post("/api/chat", json={**body, "model": "other/hi:latest", "stream": False}).json()
    assert (chat["message"]["content"], chat["prompt_eval_count"], chat["eval_count"]) == ("Hello", 7, 2)
    vectors = http.post("/v1/embeddings", json={"model": "other/hi", "input": "x"}).json()
    assert (vectors["data"][0]["embedding"], vectors["usage"]["prompt_tokens"]) == ([0.6, 0.8], 2)
    assert http.post("/api/embed", json={"model": "other/hi", "input": "x"}).json()["embeddings"] == [[0.6, 0.8]]


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_of_tools_come_through(played: Played, choice: str) -> None:
    answer = played.post("calls", tools=[TOOL], tool_choice=choice).json()["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    assert played.other.posts[-1].body["tool_choice"] == choice
    body = {"model": "other/calls", "messages": QUESTION, "tools": [TOOL], "stream": False}
    (call,) = played.gateway.http.post("/api/chat", json=body).json()["message"]["tool_calls"]
    assert call["function"]["arguments"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("dies", 502, "upstream"),
        ("hangs", 504, "upstream_stalled"),
        ("floods", 502, "upstream"),
        ("no-answer", 502, "upstream"),
        ("no-event", 502, "upstream"),
        ("compressed", 502, "upstream"),
        ("redirects", 502, "upstream"),
        ("no-key", 502, "upstream"),
        ("fails", 502, "upstream"),
        ("busy", 429, "busy"),
        ("refuses", 400, "bad_request"),
        ("broken-call", 500, "bad_answer"),
        ("goes-round", 508, "upstream_loop"),
    ],
)
def test_whatever_goes_wrong_there_is_a_sentence_here(played: Played, model: str, status: int, code: str) -> None:
    answer = played.post(model, tools=[TOOL])
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert KEY not in answer.text
    assert played.target.asked == []
    assert played.post("hi").status_code == 200


@pytest.mark.parametrize(("model", "code"), [("dies", "upstream"), ("hangs", "upstream_stalled")])
def test_a_stream_that_breaks_off_there_ends_with_an_error(played: Played, model: str, code: str) -> None:
    with played.gateway.streaming(model=f"other/{model}") as stream:
        first, *_, last = documents(stream.iter_lines())
    assert first["choices"][0]["delta"]["content"] == "Hel"
    assert last["error"]["code"] == code


def test_events_of_its_own_invention_reach_nobody(played: Played) -> None:
    with played.gateway.streaming(model="other/invents") as stream:
        told = stream.read().decode()
    assert '"content":"Hi"' in told
    assert "execute" not in told and "alert" not in told


def test_a_client_that_leaves_ends_the_answer_there(played: Played) -> None:
    with played.gateway.streaming(model="other/talks") as stream:
        played.other.left.clear()
        next(documents(stream.iter_lines()))
    assert played.other.left.wait(60)


def test_one_that_is_down_is_told_so_and_keeps_nobody_waiting(played: Played) -> None:
    answer = played.gateway.post(model="down/whatever")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_down")
    assert "The server down does not answer." in answer.json()["error"]["message"]
    assert "127.0.0.1" not in answer.text
    assert sample(played.gateway, "filbert_remote_up", remote="down") == 0
    assert sample(played.gateway, "filbert_remote_up", remote="other") == 1


def test_answers_are_counted_by_server(played: Played) -> None:
    def counted() -> float:
        return sample(played.gateway, "filbert_completion_tokens_total", remote="other", model="other/calls")

    before = counted()
    assert played.post("calls").status_code == 200
    assert until(lambda: counted() == before + 3)  # a piece each, as it tells no usage


@pytest.mark.slow
def test_another_filbert_takes_all_that_ours_do(played: Played, server: RunningServer) -> None:
    same = {"temperature": 0, "seed": 1, "max_tokens": 8}
    there = server.chat(**same).choices[0].message.content
    assert played.gateway.chat(model=f"friend/{STARTER}", **same).choices[0].message.content == there
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    model = f"friend/{STARTER}"
    held = played.gateway.chat(model=model, response_format=form, max_tokens=40).choices[0].message.content
    assert json.loads(held)["age"] <= 99
    assert (
        played.gateway.chat(model=model, extra_body={"grammar": 'root ::= "xyz"'}).choices[0].message.content == "xyz"
    )
    called = played.gateway.chat(model=model, tools=[TOOL], tool_choice="required", max_tokens=32).choices[0]
    assert called.message.tool_calls[0].function.name == "add"
    ours, theirs = (
        each.openai.embeddings.create(model=name, input=["a cat"]).data[0].embedding
        for each, name in ((server, STARTER), (played.gateway, model))
    )
    assert ours == pytest.approx(theirs, abs=1e-6)
    whole = played.gateway.openai.completions.create(model=model, prompt="One two", max_tokens=3, logprobs=2)
    assert len(whole.choices[0].logprobs.tokens) == 3


def test_a_person_sees_which_servers_there_are(played: Played) -> None:
    command = [str(Path(sys.executable).with_name("filbert")), "ps"]
    environment = {**os.environ, "FILBERT_HOME": str(played.home)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert played.other.url in shown and "up, 0 in use" in shown
    assert "down: All connection attempts failed" in shown


def test_the_key_of_a_server_is_written_nowhere(played: Played) -> None:
    played.post("no-key")
    written = [path.read_bytes() for path in played.home.rglob("*") if path.is_file()]
    assert written and not any(KEY.encode() in each for each in written)


def test_a_server_offers_on_only_what_is_its_own(tmp_path: Path, played: Played) -> None:
    with serving(tmp_path / "home", "--upstream", f"back={played.gateway.url}") as behind:
        assert [each for each in behind.openai.models.list() if each.id.startswith("back/")] == []
        refused = behind.post(model="back/other/hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.slow
def test_a_server_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    with other_server(says_hi, "hi") as other:
        port = other.port
    with serving(tmp_path / "home", "--upstream", f"other={other.url}") as gateway:
        assert gateway.post(model="other/hi").status_code == 503
        with other_server(says_hi, "hi", port=port):
            assert until(lambda: gateway.post(model="other/hi").status_code == 200)
        assert gateway.post(model="other/hi").status_code == 503
        (shown,) = gateway.http.get("/v1/models").json()["data"]
        assert (shown["id"], shown["status"]) == ("other/hi", "down")
