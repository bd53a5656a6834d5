"""The ways to the same model that are measured against each other; each gives the arrival of every token."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

import filbert
from filbert.core.machine import cores
from filbert.core.settings import configured
from filbert.engine.sampling import Sampling
from filbert.face.model import Model
from filbert.models import store

HERE = Path(__file__).parent
CONTEXT = 4096
NAMES = [
    "river",
    "stone",
    "window",
    "garden",
    "letter",
    "winter",
    "bridge",
    "engine",
    "captain",
    "market",
    "silver",
    "orchard",
    "signal",
    "harbour",
]


@dataclass(frozen=True, slots=True)
class Heard:
    """Seconds since the question at which each token arrived."""

    arrivals: list[float]
    prompt_tokens: int

    @property
    def generation_tps(self) -> float:
        return (len(self.arrivals) - 1) / (self.arrivals[-1] - self.arrivals[0])

    @property
    def prompt_tps(self) -> float:
        return self.prompt_tokens / self.arrivals[0]


class Way(Protocol):
    def ask(self, prompt: str, tokens: int) -> Heard: ...


def fresh_prompt(words: int) -> str:
    """Never the same twice: the engine remembers prompts."""
    return f"Story {random.random()}: " + " ".join(random.choice(NAMES) for _ in range(words))


class Ours:
    """Through `filbert.load`."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def ask(self, prompt: str, tokens: int) -> Heard:
        began = time.perf_counter()
        # As the others: a fixed number of tokens, whatever the model would like.
        options = configured(Sampling, {"max_tokens": tokens, "temperature": 0.8})
        arrivals: list[float] = []
        count = 0
        for chunk in self.model.complete(prompt, options):
            if chunk.text:
                arrivals.append(time.perf_counter() - began)
            if chunk.finish:
                count = chunk.finish.usage.prompt_tokens
        return Heard(arrivals, count)


class OverHttp:
    """Through `filbert serve`, read as a client would."""

    def __init__(self, address: str, model: str) -> None:
        self._client = httpx.Client(base_url=address, timeout=300)
        self._model = model

    def ask(self, prompt: str, tokens: int) -> Heard:
        body = {"model": self._model, "prompt": prompt, "max_tokens": tokens, "temperature": 0.8, "stream": True}
        body["stream_options"] = {"include_usage": True}
        began = time.perf_counter()
        arrivals: list[float] = []
        count = 0
        with self._client.stream("POST", "/v1/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    if event["choices"] and event["choices"][0]["text"]:
                        arrivals.append(time.perf_counter() - began)
                    count = (event.get("usage") or {}).get("prompt_tokens", count)
        return Heard(arrivals, count)


class Speaker:
    """Another program's process (speaker.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()

    def ask(self, prompt: str, tokens: int) -> Heard:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"prompt": prompt, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return Heard(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return line
        python, status = self._process.args[0], self._process.wait()
        sys.exit(f"{python} ended with status {status}. Of a peer that dies the Makefile tells, at .peer/built.")


@contextmanager
def ours(environment: Mapping[str, str] | None = None, **options: object) -> Iterator[Ours]:
    """`environment` stands while the worker starts, as if the person had set it."""
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        model = filbert.load("smollm2:135m", **{"context": CONTEXT, **options})
    finally:
        os.environ.clear()
        os.environ.update(before)
    with model:
        yield Ours(model)


@contextmanager
def over_http() -> Iterator[OverHttp]:
    command = [sys.executable, "-m", "filbert", "serve", "-m", "smollm2:135m", "--context", str(CONTEXT), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        line = next(line for line in process.stderr if line.startswith("http://"))
        yield OverHttp(line.split("/v1")[0], "smollm2:135m")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def speaker(kind: str, python: str, environment: Mapping[str, str] | None = None) -> Iterator[Speaker]:
    model = store.resolve("smollm2:135m").path
    command = [python, str(HERE / "speaker.py"), kind, str(model), str(CONTEXT), str(cores())]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    try:
        yield Speaker(process)
    finally:
        process.kill()
        process.wait()
