"""What was said stands in no log and on no terminal, whatever becomes of it."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import make_tiny
from filbert.core.errors import BadAnswer
from filbert.engine.transport import refusal
from filbert.server import error_bodies
from filbert.server.upstreams.options import UpstreamOptions
from filbert.server.upstreams.upstream import Upstream
from running_server import FOR_EVER, WAIT_S, RunningServer, documents, gone, install, serving

NAME = "tiny:1b-q8_0"
ASKED, ANSWERED, HELD = "what-was-asked", "what-was-answered", "what-was-wished"
SECRETS = (ASKED, ANSWERED, HELD)
TEMPLATE = (
    "{% for message in messages %}{% if 'odd' in message.content %}{{ raise_exception(message.content) }}{% endif %}"
    "{{ message.content }}{% endfor %}"
)


@pytest.fixture(params=["INFO", "DEBUG"])
def served(home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server whose every word is read."""
    path = make_tiny.dense(tmp_path / "tiny.gguf", template=TEMPLATE)
    install(home, path, NAME, hashlib.sha256(path.read_bytes()).hexdigest())
    with serving(home, "--context", "1024", FILBERT_LOG_LEVEL=request.param) as server:
        yield server


def chat(server: RunningServer, asked: str = ASKED, **fields: Any) -> Any:
    return server.post(model=NAME, messages=[{"role": "user", "content": asked}], **fields)


def told(server: RunningServer) -> str:
    """All that it wrote, to its end."""
    server.end()
    logs = [path.read_text() for path in sorted((server.home / "log").iterdir())]
    return "".join([*logs, *iter(lambda: server._said.get(timeout=WAIT_S), None)])


def test_neither_what_was_asked_nor_what_was_answered(served: RunningServer) -> None:
    answered = f'root ::= "{ANSWERED}"'
    assert ANSWERED in chat(served, grammar=answered, max_tokens=40).text
    assert (
        ANSWERED
        in served.http.post(
            "/v1/responses", json={"model": NAME, "input": ASKED, "grammar": answered, "max_output_tokens": 40}
        ).text
    )
    said = told(served)
    assert said.count('"status": 200') == 2
    assert not [secret for secret in SECRETS if secret in said]


def test_nor_what_an_answer_should_hold_to_and_could_not(served: RunningServer) -> None:
    grammars = [f'root ::= "{HELD}" nowhere', f'root ::= "{HELD}', f'root ::= [a-z]\nother ::= "\n\n{HELD}" nowhere']
    schemas = [{"type": HELD}, {"$ref": f"#/{HELD}"}, {"type": "string", "pattern": f"({HELD}"}]
    for grammar in grammars:
        assert chat(served, grammar=grammar).status_code == 400
    for schema in schemas:
        assert chat(served, json_schema=schema).status_code == 400
    assert chat(served, f"odd {ASKED}").status_code in (400, 500)  # the template tells what it was given
    assert chat(served, max_tokens=1).status_code == 200
    said = told(served)
    assert said.count('"status": 400') >= 6
    assert not [secret for secret in SECRETS if secret in said]


def test_nor_when_the_worker_dies_over_it(served: RunningServer) -> None:
    assert chat(served, grammar=f'root ::= "{HELD}" nowhere').status_code == 400  # the last it hears of the engine
    fields = {"grammar": FOR_EVER.replace("x", ANSWERED), "max_tokens": 900}
    asked = {"model": NAME, "messages": [{"role": "user", "content": ASKED}], **fields}
    with served.streaming(**asked) as answer:
        events = documents(answer.iter_lines())
        assert [next(events)["object"] for _ in range(3)]
        worker = served.worker()
        worker.send_signal(signal.SIGKILL)
        assert "engine_crashed" in str(list(events)[-1])
    assert gone([worker])
    said = told(served)
    assert "WARNING" in said
    assert not [secret for secret in SECRETS if secret in said]


def test_nor_what_an_engine_or_a_model_did_wrong_over_it(caplog: pytest.LogCaptureFixture) -> None:
    failed = refusal(500, f'{{"error": {{"message": "Failed to parse: {ANSWERED}"}}}}'.encode())
    assert ANSWERED in str(failed)  # whoever runs the engine in their own process reads it
    assert error_bodies.ollama_error(failed)["error"].startswith("The engine failed.")
    assert "The engine failed." in caplog.text
    wrong = BadAnswer(f"The model called f with {ANSWERED}.", do="Ask again.")
    assert ANSWERED in error_bodies.ollama_error(wrong)["error"]
    other = Upstream("box", UpstreamOptions(url="http://127.0.0.1:9/v1"))
    error_bodies.ollama_error(other.said_error(500, {"error": {"message": ASKED}}))
    assert "It answered 500." in caplog.text
    assert not [secret for secret in SECRETS if secret in caplog.text]
