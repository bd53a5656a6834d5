"""A real `filbert serve`, started as a person would, and a store that holds the starter."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
from prometheus_client.parser import text_string_to_metric_families

from filbert.models.header import Kind
from filbert.models.manifest import Kept, Manifest, manifest_file
from running import children_of

STARTER = "smollm2:135m-q4_1"
STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WAIT_S = 60  # until something that must happen has happened; no test measures time
ROOM_S = 40  # far less than FOR_AGES takes, far more than a word does
PROGRAM = (str(Path(sys.executable).with_name("filbert")),)
FOR_EVER = 'root ::= "x" root'  # a grammar that no answer ends


def install(
    home: Path, model: Path, name: str = STARTER, sha256: str = STARTER_SHA256, kind: Kind = "language"
) -> Path:
    """Put a model file into a store, as `filbert pull` would have."""
    folder = home / "models" / "files" / sha256
    folder.mkdir(parents=True)
    target = folder / model.name
    try:
        os.link(model, target)
    except OSError:  # another disk
        shutil.copy(model, target)
    kept = Kept(role="model", name=model.name, size_bytes=target.stat().st_size, sha256=sha256, folder=sha256)
    manifest = Manifest(
        name=name,
        source=f"hf:owner/{model.stem}",
        revision="",
        licence="",
        pulled="2026-11-24T08:00:00+00:00",
        files=(kept,),
        kind=kind,
    )
    path = home / "models" / "names" / manifest_file(name).name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest.model_dump_json())
    return target


class RunningServer:
    """The process, its address, and clients that try once."""

    def __init__(self, home: Path, *flags: str, program: Sequence[str] = PROGRAM, **settings: str) -> None:
        self.home = home
        environment = {**os.environ, "FILBERT_HOME": str(home), **settings}
        command = [*program, "serve", "--port", "0", *flags]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.url = self._address()
        self.http = httpx.Client(base_url=self.url, timeout=WAIT_S)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._said.put(line)
        self._said.put(None)

    def _address(self) -> str:
        heard = []
        while (line := self._said.get(timeout=WAIT_S)) is not None:
            heard.append(line)
            if match := re.search(r"(https?://(?:127\.0\.0\.1|\[::1\]):\d+)/v1", line):
                return match[1]
        raise AssertionError(f"the server ended: {''.join(heard)}")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[psutil.Process]:
        return children_of(self.process.pid)

    def worker(self) -> psutil.Process:
        (worker,) = self.workers()
        return worker

    def chat(self, text: str = "Say hi.", **fields: Any) -> Any:
        fields = {"model": STARTER, "max_tokens": 8, **fields}
        return self.openai.chat.completions.create(messages=[{"role": "user", "content": text}], **fields)

    def post(self, route: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
        body = {"model": STARTER, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4, **fields}
        return self.http.post(route, json=body)

    def streaming(self, **fields: Any) -> Any:
        """A stream's response, to be used in a `with`."""
        body = {"model": STARTER, "messages": [{"role": "user", "content": "Say hi."}], "stream": True, **fields}
        return self.http.stream("POST", "/v1/chat/completions", json=body)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(WAIT_S)


SAMPLES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def sample(server: RunningServer, name: str, **labels: str) -> float:
    """The sum of a sample over all series that have these labels."""
    families = list(text_string_to_metric_families(server.http.get("/metrics").text))
    assert name in [family.name + end for family in families for end in SAMPLES[family.type]], f"there is no {name}"
    return sum(
        each.value
        for family in families
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    )


def documents(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line[6:])


FOR_AGES = {"grammar": FOR_EVER, "max_tokens": 7500}


def request(text: str = "Say hi.", **fields: Any) -> bytes:
    """The bytes of a request for a chat."""
    body = {"model": STARTER, "messages": [{"role": "user", "content": text}], **fields}
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def sent(server: RunningServer, text: str = "Say hi.", **fields: Any) -> socket.socket:
    """A request under way on a connection of its own, and for ages unless told otherwise."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)
    connection.sendall(request(text, **{**FOR_AGES, **fields}))
    return connection


def unharmed(server: RunningServer, models: Sequence[str] = (STARTER,), workers: int = 1) -> bool:
    """Whether it answers another, long before whoever was there is through; all that was stored is there, and no
    process is left over."""
    answered = server.chat(model=models[0], max_tokens=2, timeout=ROOM_S).choices
    stored = sorted(model.id for model in server.openai.models.list())
    return bool(answered) and stored == sorted(models) and len(server.workers()) == workers


@contextmanager
def serving(home: Path, *flags: str, program: Sequence[str] = PROGRAM, **settings: str) -> Iterator[RunningServer]:
    server = RunningServer(home, *flags, program=program, **settings)
    try:
        yield server
    finally:
        with suppress(subprocess.TimeoutExpired):
            server.end()
        server.process.kill()
        server.process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end."""
    _, alive = psutil.wait_procs(processes, timeout=WAIT_S)
    return not alive
