"""The transport against servers that misbehave; the real worker is in the other files."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from filbert.core.errors import BadRequest, ContextOverflow, EngineCrashed, EngineError, EngineFailed, EngineStalled
from filbert.engine.transport import WorkerSocket, refusal

Answering = Callable[[bytes], WorkerSocket]
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A server that gives these bytes to one request, and then closes or, after a `HANG`, waits."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(answer: bytes) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer.removesuffix(b"HANG"))
            if answer.endswith(b"HANG"):
                over.wait(60)

    def start(answer: bytes) -> WorkerSocket:
        threading.Thread(target=serve, args=(answer,), daemon=True).start()
        return WorkerSocket(f"http://127.0.0.1:{listening.getsockname()[1]}", "secret", 0.5)

    yield start
    over.set()
    listening.close()


def test_a_stream_is_events_until_it_says_done(answering: Answering) -> None:
    body = b'data: {"n": 1}\n\n: a comment\n\ndata: {"n": 2}\n\ndata: [DONE]\n\ndata: {"n": 3}\n\n'
    assert list(answering(STREAM + body).send("/x", {})) == [{"n": 1}, {"n": 2}]


def test_a_plain_answer_is_one_event(answering: Answering) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"
    assert list(answering(head + b'{"n": 1}').send("/x", {})) == [{"n": 1}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (STREAM + b'data: {"n": 1}\n\n', EngineCrashed),
        (STREAM + b'data: {"n": 1}\n\nHANG', EngineStalled),
        (b"HANG", EngineStalled),
        (b"", EngineCrashed),
        (b"nonsense\r\n\r\n", EngineCrashed),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 80\r\n\r\n{", EngineCrashed),
        (STREAM + b'data: {"error": {"code": 400, "message": "no"}}\n\n', BadRequest),
        (STREAM + b'data: {"error": {"code": 500, "message": "oh"}}\n\n', EngineError),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", EngineError),
    ],
    ids=["cut", "hangs in mid-stream", "hangs", "closes", "no HTTP", "half", "refusal in stream", "failure", "busy"],
)
def test_what_goes_wrong_on_the_way_is_an_error_of_ours(
    answering: Answering, answer: bytes, error: type[EngineError]
) -> None:
    with pytest.raises(error) as caught:
        list(answering(answer).send("/x", {}))
    assert caught.value.do


def test_no_server_at_all_is_a_crash() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(EngineCrashed, match="does not answer"):
        WorkerSocket(f"http://127.0.0.1:{port}", "secret", 1).send("/x", {})
    with pytest.raises(EngineCrashed, match="does not answer"):
        WorkerSocket("unix:///nowhere/x.sock", "secret", 1).send("/x", {})


def test_cancel_wakes_a_reader_that_waits(answering: Answering) -> None:
    way = answering(STREAM + b'data: {"n": 1}\n\nHANG')
    way.stall_s = 60
    exchange = way.send("/x", {})
    events = iter(exchange)
    assert next(events) == {"n": 1}
    threading.Timer(0.05, exchange.cancel).start()
    assert list(events) == []


@pytest.mark.parametrize(
    ("status", "error", "kind", "told"),
    [
        (400, {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8, "message": ""}, ContextOverflow, "9"),
        (500, {"message": "input (1202 tokens) is too large to process. (current batch size: 512)"}, ContextOverflow, "512"),
        (400, {"message": "Failed to parse grammar"}, BadRequest, "parse grammar"),
        (400, {"message": "top_k is odd"}, BadRequest, "top_k is odd. Change what it names, or leave that out."),
        (500, {"message": "boom"}, EngineFailed, "boom"),
    ],
)  # fmt: skip
def test_the_engines_refusals_are_told_in_our_words(
    status: int, error: dict[str, object], kind: type[EngineError], told: str
) -> None:
    found = refusal(status, json.dumps({"error": error}).encode())
    assert type(found) is kind
    assert told in str(found)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {}}', b"\xff"])
def test_an_answer_that_makes_no_sense_is_an_error_all_the_same(body: bytes) -> None:
    assert isinstance(refusal(500, body), EngineError)
