"""The tiny files are what they say: the real engine loads each, or fails on it as announced. Plumbing only."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import make_tiny
from filbert.engine.threads import environment
from filbert.models.gguf import read_header

ASK = Path(__file__).with_name("ask_engine.py")
CHAT = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny.write_all(folder)
    return folder


def run(asked: dict[str, Any], wait_s: float = 60) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(ASK), json.dumps(asked)]
    return subprocess.run(command, env={**os.environ, **environment(threads=2)}, capture_output=True, timeout=wait_s)


def ask(model: Path, route: str = "chat", body: dict[str, Any] = CHAT, **more: Any) -> dict[str, Any]:
    done = run({"model": str(model), "route": route, "body": body, **more})
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)["answer"]
    return answer


def image() -> str:
    """A PNG of 28 x 28 pixels as a data address."""
    rows = b"".join(b"\0" + bytes(value for x in range(28) for value in (9 * x, 9 * y, 128)) for y in range(28))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


@pytest.mark.parametrize("name", ["dense", "quantised", "experts", "looping", "exploding"])
def test_a_tiny_chat_model_answers(files: Path, name: str) -> None:
    assert ask(files / f"{name}.gguf")["usage"]["completion_tokens"] > 0


def test_the_split_model_answers_as_the_whole_one(files: Path) -> None:
    whole, split = ask(files / "dense.gguf"), ask(files / "split-00001-of-00003.gguf")
    assert split["choices"] == whole["choices"]


def test_the_adapter_changes_the_answer_and_an_adapter_of_zeros_does_not(files: Path, tmp_path: Path) -> None:
    zeros = make_tiny.adapter(tmp_path / "zeros.gguf", strength=0.0)
    plain = ask(files / "dense.gguf")["choices"]
    assert ask(files / "dense.gguf", adapters=[str(files / "adapter.gguf")])["choices"] != plain
    assert ask(files / "dense.gguf", adapters=[str(zeros)])["choices"] == plain


def test_the_embedder_gives_a_unit_vector_a_text(files: Path) -> None:
    vectors = [
        row["embedding"] for row in ask(files / "embedder.gguf", "embeddings", {"input": ["the cat", "a dog"]})["data"]
    ]
    assert [len(vector) for vector in vectors] == [make_tiny.WIDTH] * 2
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-4)


def test_the_reranker_scores_each_document(files: Path) -> None:
    body = {"query": "capital of france", "documents": ["paris", "the cat"]}
    scores = {row["index"]: row["relevance_score"] for row in ask(files / "reranker.gguf", "rerank", body)["results"]}
    assert set(scores) == {0, 1} and scores[0] != scores[1]


def test_the_vision_pair_takes_an_image_for_four_tokens(files: Path) -> None:
    def tokens(*parts: dict[str, Any]) -> int:
        body = {**CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, *parts]}]}
        answer = ask(files / "vision.gguf", body=body, projector=str(files / "mmproj-vision.gguf"))
        return int(answer["usage"]["prompt_tokens"])

    assert tokens({"type": "image_url", "image_url": {"url": image()}}) - tokens() >= (28 // 14) ** 2


@pytest.mark.parametrize(("name", "word"), [("looping", "loop"), ("exploding", "explode")])
def test_a_hostile_template_does_not_come_back_when_provoked(files: Path, name: str, word: str) -> None:
    """The engine sets no limit of its own here; whoever asks has to. Memory is limited so that this machine lives."""

    def say(content: str, wait_s: float) -> bytes:
        body = {**CHAT, "messages": [{"role": "user", "content": content}]}
        asked = json.dumps({"model": str(files / f"{name}.gguf"), "route": "chat", "body": body})
        command = ["/bin/sh", "-c", f'ulimit -v 2000000; exec {sys.executable} {ASK} "$0"', asked]
        environ = {**os.environ, **environment(threads=2)}
        return subprocess.run(command, env=environ, capture_output=True, timeout=wait_s, check=True).stdout

    assert b"completion_tokens" in say("the cat", 60)
    with pytest.raises((subprocess.TimeoutExpired, subprocess.CalledProcessError)):
        say(word, 3)


def test_a_file_may_be_formally_right_and_make_the_engine_abort(files: Path) -> None:
    assert read_header(files / "aborting.gguf").architecture == "llama"
    done = run({"model": str(files / "aborting.gguf"), "route": "chat", "body": CHAT})
    assert done.returncode == -signal.SIGABRT
    assert b"GGML_ASSERT" in done.stderr


def test_a_file_may_be_formally_right_and_the_engine_refuse_it(files: Path) -> None:
    assert read_header(files / "refused.gguf").architecture == "llama"
    done = run({"model": str(files / "refused.gguf"), "route": "chat", "body": CHAT})
    assert done.returncode == 1
    assert b"Failed to init server" in done.stderr
