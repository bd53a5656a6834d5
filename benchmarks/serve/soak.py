"""Hours of a server's life in minutes: many models that come and go in little memory, clients of every protocol, some
of whom leave midway.

    python benchmarks/serve/soak.py [--minutes 10] [--clients 8] [--seed 1]

It serves on 127.0.0.1 from a store of its own, made of the test models (`make test` fetches them) and of tiny random
ones. Ends with 1 where a request failed, memory grew, or a process or file descriptor is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from filbert.models.manifest import Kept, Manifest, write_manifest
from filbert.report.table import table

CHECKOUT = Path(__file__).parents[2]
sys.path.append(str(CHECKOUT / "tests"))
import make_tiny  # noqa: E402

FILBERT = Path(sys.executable).with_name("filbert")
MOST_MINUTES = 60
STARTER, EMBEDDER, TINY = "starter:135m", "embedder:22m", [f"tiny:{number}m" for number in range(1, 7)]
NOW = "2026-11-24T08:00:00+00:00"
MEMORY_GB = 1.2  # a third of what all would take; as much as any eight clients want at once
KEEP_S = 3
EVERY_S = 1.0  # between two looks at the gateway
GROWTH_MB = 8.0  # that the gateway may have grown by since it was warm
PATIENCE_S = 300.0
IDLE_S = 60.0  # until everything that was asked for has to be gone
QUESTION = [{"role": "user", "content": "Tell me about hazelnuts."}]
SCHEMA = {"type": "object", "properties": {"nut": {"type": "string", "maxLength": 8}}, "required": ["nut"]}


class Failed(Exception):
    """What a client was told instead of its answer."""


@dataclass
class Counted:
    """Of one kind of request."""

    seconds: list[float] = field(default_factory=list)
    left: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class Look:
    """At the gateway, at one moment."""

    at_s: float
    rss_mb: float
    descriptors: int
    processes: int


class Clients:
    """Each asks one thing after another, as a seed has it, until the time is over."""

    def __init__(self, http: httpx.AsyncClient, language: list[str], chance: random.Random) -> None:
        self._http, self._language, self._chance = http, language, chance
        self.counted: dict[str, Counted] = defaultdict(Counted)
        self.acts: list[Callable[[], Awaitable[None]]] = [
            self.chat,
            self.chat_streamed,
            self.chat_by_schema,
            self.completion,
            self.conversation,
            self.message,
            self.message_streamed,
            self.ollama_chat,
            self.ollama_generate,
            self.embeddings,
            self.ollama_embed,
            self.look_around,
            self.leave_in_the_middle,
            self.leave_at_once,
        ]

    async def ask_until(self, end: float) -> None:
        while time.monotonic() < end:
            await self.counting(self._chance.choice(self.acts))

    async def counting(self, act: Callable[[], Awaitable[None]]) -> None:
        counted, since = self.counted[act.__name__.replace("_", " ")], time.monotonic()
        try:
            await act()
        except (Failed, httpx.HTTPError, ValueError, KeyError) as exc:
            counted.failed.append(f"{type(exc).__name__} {exc}")
        else:
            counted.seconds.append(time.monotonic() - since)

    @property
    def model(self) -> str:
        return self._chance.choice(self._language)

    @property
    def tokens(self) -> int:
        return self._chance.choice((1, 8, 32))

    async def chat(self) -> None:
        told = await self._post("/v1/chat/completions", model=self.model, messages=QUESTION, max_tokens=self.tokens)
        told["choices"][0]["finish_reason"]

    async def chat_streamed(self) -> None:
        wish = {"model": self.model, "messages": QUESTION, "max_tokens": self.tokens, "stream": True}
        await self._whole_stream("/v1/chat/completions", "[DONE]", **wish)

    async def chat_by_schema(self) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "nut", "schema": SCHEMA}}
        wish = {"messages": QUESTION, "max_tokens": 64, "response_format": form}
        told = await self._post("/v1/chat/completions", model=STARTER, **wish)
        (answer,) = told["choices"]
        if answer["finish_reason"] == "stop":  # not cut
            json.loads(answer["message"]["content"])

    async def completion(self) -> None:
        await self._post("/v1/completions", model=self.model, prompt="Nuts are", max_tokens=self.tokens, n=2)

    async def conversation(self) -> None:
        wish = {"model": self.model, "max_output_tokens": self.tokens}
        first = await self._post("/v1/responses", input="Name a nut.", **wish)
        await self._post("/v1/responses", input="Another?", previous_response_id=first["id"], **wish)
        check(await self._http.delete(f"/v1/responses/{first['id']}"))

    async def message(self) -> None:
        await self._post("/v1/messages", model=self.model, messages=QUESTION, max_tokens=self.tokens)

    async def message_streamed(self) -> None:
        wish = {"model": self.model, "messages": QUESTION, "max_tokens": self.tokens, "stream": True}
        await self._whole_stream("/v1/messages", "message_stop", **wish)

    async def ollama_chat(self) -> None:
        keep = self._chance.choice((0, "1s", "5s", None))
        wish = {"messages": QUESTION, "options": {"num_predict": self.tokens}, "keep_alive": keep}
        await self._whole_stream("/api/chat", '"done":true', model=self.model, **wish)

    async def ollama_generate(self) -> None:
        """Sometimes with a context of its own, which is a load of its own; sometimes only to unload it."""
        if self._chance.random() < 0.3:
            await self._post("/api/generate", model=self.model, keep_alive=0)
        options = {"num_predict": self.tokens, "num_ctx": self._chance.choice((256, 512))}
        await self._post("/api/generate", model=self.model, prompt="Nuts are", stream=False, options=options)

    async def embeddings(self) -> None:
        model = self._chance.choice([EMBEDDER, *self._language])
        await self._post("/v1/embeddings", model=model, input=["a nut", "a hazel"] * self._chance.choice((1, 20)))

    async def ollama_embed(self) -> None:
        await self._post("/api/embed", model=EMBEDDER, input="a nut", keep_alive=self._chance.choice((0, 2)))

    async def look_around(self) -> None:
        for path in ("/health", "/ready", "/v1/models", "/api/tags", "/api/ps", "/metrics", "/openapi.json"):
            check(await self._http.get(path))

    async def leave_in_the_middle(self) -> None:
        wish = {"model": self.model, "messages": QUESTION, "max_tokens": 400, "stream": True}
        async for _ in self._stream("/v1/chat/completions", **wish):
            break
        self.counted["leave in the middle"].left += 1

    async def leave_at_once(self) -> None:
        asking = asyncio.create_task(self._post("/v1/messages", model=self.model, messages=QUESTION, max_tokens=400))
        await asyncio.wait({asking}, timeout=self._chance.random())
        if not asking.done():
            self.counted["leave at once"].left += 1
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result()

    async def _post(self, path: str, **body: Any) -> dict[str, Any]:
        told: dict[str, Any] = check(await self._http.post(path, json=body)).json()
        return told

    async def _stream(self, path: str, **body: Any) -> AsyncIterator[str]:
        async with self._http.stream("POST", path, json=body) as answer:
            if answer.status_code != 200:
                await answer.aread()
                check(answer)
            async for line in answer.aiter_lines():
                if '"error"' in line:
                    raise Failed(line[:300])
                yield line

    async def _whole_stream(self, path: str, end: str, **body: Any) -> None:
        lines = [line async for line in self._stream(path, **body) if line]
        if not any(end in line for line in lines[-2:]):
            raise Failed(f"a stream of {path} ended without {end}")


def check(answer: httpx.Response) -> httpx.Response:
    if answer.status_code != 200:
        raise Failed(f"{answer.status_code} {answer.text[:300]}")
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (gateway, url):
        failed = asyncio.run(soak(gateway, url, min(asked.minutes, MOST_MINUTES) * 60, asked.clients, asked.seed))
        if failed:
            shutil.copy(Path(folder) / "log" / "filbert.log", "soak.log")
            print("What the server told its log is in soak.log.", file=sys.stderr)
        return failed


async def soak(gateway: psutil.Process, url: str, seconds: float, clients: int, seed: int) -> int:
    chance, language = random.Random(seed), [STARTER, *TINY]
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        warming = Clients(http, language, chance)
        for act in warming.acts * 2:  # what is opened once, and kept, is open now
            await warming.counting(act)
    before, looks, workers = await idle(gateway), list[Look](), set[int]()
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        asking, end = Clients(http, language, chance), time.monotonic() + seconds
        watching = asyncio.create_task(watch(gateway, looks, workers))
        await asyncio.gather(*(asking.ask_until(end) for _ in range(clients)))
        watching.cancel()
    after = await idle(gateway)
    counted = [*warming.counted.items(), *asking.counted.items()]
    problems = [f"{name}: {why}" for name, each in counted for why in each.failed]
    problems += left_over(before, after)
    grown, slope = growth(looks)
    if grown > GROWTH_MB:
        problems.append(f"the gateway grew by {grown:.1f} MB")
    print(report(asking.counted))
    most_mb = max(look.rss_mb for look in looks)
    print(f"\n{len(workers)} workers in {seconds / 60:g} minutes, load {os.getloadavg()[0]:.1f}.")
    print(f"The gateway's memory: {looks[0].rss_mb:.0f} MB, {most_mb:.0f} MB at most; since it was warm it grew by")
    print(f"{grown:.1f} MB (target {GROWTH_MB:.0f}), {slope:+.2f} MB a minute. Before and after, idle: processes")
    print(f"{before.processes} and {after.processes}, file descriptors {before.descriptors} and {after.descriptors}.")
    for problem in problems[:20]:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if problems else 0


def report(counted: dict[str, Counted]) -> str:
    rows = [
        (
            name,
            str(len(each.seconds)),
            str(each.left),
            str(len(each.failed)),
            f"{statistics.median(each.seconds):.2f}" if each.seconds else "",
            f"{max(each.seconds):.2f}" if each.seconds else "",
        )
        for name, each in sorted(counted.items())
    ]
    sums = [str(sum(int(row[column]) for row in rows)) for column in (1, 2, 3)]
    return table(("requests", "answered", "left", "failed", "median s", "longest s"), [*rows, ("all", *sums, "", "")])


def growth(looks: list[Look]) -> tuple[float, float]:
    """MB that the gateway grew by since a third of the time was over, and MB a minute."""
    warm = looks[len(looks) // 3 :]
    part = max(1, len(warm) // 4)
    first, last = (statistics.median(look.rss_mb for look in some) for some in (warm[:part], warm[-part:]))
    if len(warm) < 2:
        return 0.0, 0.0
    line = statistics.linear_regression([look.at_s / 60 for look in warm], [look.rss_mb for look in warm])
    return last - first, line.slope


def left_over(before: Look, after: Look) -> Iterator[str]:
    if after.processes > before.processes:
        yield f"{after.processes - before.processes} processes are left over"
    if after.descriptors > before.descriptors:
        yield f"{after.descriptors - before.descriptors} file descriptors are left over"


async def watch(gateway: psutil.Process, looks: list[Look], workers: set[int]) -> None:
    while True:
        looks.append(look(gateway))
        workers |= {child.pid for child in gateway.children(recursive=True)}
        await asyncio.sleep(EVERY_S)


def look(gateway: psutil.Process) -> Look:
    rss_mb = gateway.memory_info().rss / 1e6
    return Look(time.monotonic(), rss_mb, gateway.num_fds(), len(gateway.children(recursive=True)))


async def idle(gateway: psutil.Process) -> Look:
    """Once every model was unloaded and every connection closed; or as it is when that takes too long."""
    end, found = time.monotonic() + IDLE_S, look(gateway)
    while time.monotonic() < end:
        await asyncio.sleep(2 * EVERY_S)
        before, found = found, look(gateway)
        if found.processes == 0 and found.descriptors == before.descriptors and not gateway.net_connections("tcp")[1:]:
            break
    return found


@contextmanager
def served(home: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A server of a store of its own: its process and its address."""
    fill(home)
    command = [str(FILBERT), "serve", "--port", "0", "--context", "1024", "--keep-alive", str(KEEP_S)]
    command += ["--memory-gb", str(MEMORY_GB), "--prompt-cache-mib", "32"]
    environment = {**os.environ, "FILBERT_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            if not found:
                raise SystemExit("the server did not start: " + process.stderr.read())
            yield psutil.Process(process.pid), found[0]
        finally:
            process.send_signal(signal.SIGTERM)


def fill(home: Path) -> None:
    """The real models, and tiny ones of random weights."""
    os.environ["FILBERT_HOME"] = str(home)
    fetch = [sys.executable, str(CHECKOUT / "tools" / "fetch_test_models.py"), str(CHECKOUT / ".models")]
    files = {}
    for name, which in ((STARTER, "starter"), (EMBEDDER, "embedder")):
        files[name] = Path(
            subprocess.run([*fetch, which], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        )
    for number, name in enumerate(TINY):
        files[name] = home / f"tiny{number}.gguf"
        make_tiny.write(files[name], make_tiny.dense_parts(seed=number))
    for number, (name, file) in enumerate(files.items()):
        install(name, file, f"{number:064x}")


def install(name: str, model: Path, sha256: str) -> None:
    kept = Kept(role="model", name=model.name, size_bytes=model.stat().st_size, sha256=sha256, folder=sha256)
    kept.path.parent.mkdir(parents=True)
    try:
        os.link(model, kept.path)
    except OSError:  # another disk
        shutil.copyfile(model, kept.path)
    write_manifest(Manifest(name=name, source="", revision="", licence="", pulled=NOW, files=(kept,)))


if __name__ == "__main__":
    sys.exit(main())
