"""A pull as Ollama's clients watch it: its progress, a document at a time."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from filbert.core import jobs
from filbert.core.errors import BadInput, Cancelled, DownloadFailed, Forbidden, HashMismatch
from filbert.core.jobs import Progress
from filbert.core.log import log
from filbert.models import catalogue, store
from filbert.models.manifest import installed_names, manifest_of
from filbert.models.modelfile import named_by_ollama
from filbert.models.name import parse
from filbert.models.redirects import ONLY_PUBLIC

BETWEEN_S = 0.1  # two words of one step


def pullable(name: str, key: str | None) -> str:
    """The name as ours is written. key: the id of that which came with the request. Raises BadInput for what is not
    pulled over HTTP, Forbidden for what is with a key only, UnknownModel."""
    text = named_by_ollama(name)
    parsed = parse(text)
    if parsed.scheme == "file":
        raise BadInput(
            f"{name[:200]} is not pulled over HTTP.",
            why="Names of the catalogue and of the hub are: smollm2:135m, hf:owner/repo:Q4_K_M.",
            do="`filbert import` takes files, where the server runs.",
        )
    if parsed.scheme in ("https", "pypi") and not key:
        raise Forbidden(
            f"{name[:200]} is pulled over HTTP with an admin key only.",
            do="`filbert keys add NAME --scope admin` makes one; where the server runs, `filbert pull` needs none.",
        )
    if parsed.scheme == "catalogue" and not manifest_of(parsed):
        catalogue.find(parsed, installed_names())
    return text


async def pulled(name: str) -> AsyncIterator[dict[str, Any]]:
    """Pull a model, and tell. Whoever stops listening stops it; what came stays, and the next pull goes on from there.
    Raises what `store.pull` raises."""
    loop, left = asyncio.get_running_loop(), threading.Event()
    arrived: asyncio.Queue[Progress | None] = asyncio.Queue()
    step, told = "", 0.0

    def watch(event: Progress) -> None:
        nonlocal step, told
        if left.is_set():
            raise Cancelled("The client left.", do="Pull it again to go on where it stopped.")
        if event.step != step or event.done == event.total or time.monotonic() - told > BETWEEN_S:
            step, told = event.step, time.monotonic()
            loop.call_soon_threadsafe(arrived.put_nowait, event)

    def pull() -> None:
        scheme = parse(name).scheme
        ONLY_PUBLIC.set(scheme == "https")
        try:
            jobs.run("pull", {"name": name}, store.pull(name), watch)
        except DownloadFailed as exc:
            if scheme != "pypi" or isinstance(exc, HashMismatch):
                raise
            log.warning("%s", exc)  # pip's own words may name hosts and files
            raise DownloadFailed(f"{name} could not be downloaded.", do="The server's log file says why.") from exc

    running = asyncio.ensure_future(asyncio.to_thread(pull))
    running.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        yield {"status": "pulling manifest"}
        while event := await arrived.get():
            yield document(name, event)
        await running
        yield {"status": "success"}
    finally:
        left.set()


def document(name: str, event: Progress) -> dict[str, Any]:
    """Clients draw one bar a digest. Ours tells what is measured, for the hash of a file is known at its end only."""
    if event.unit != "bytes" or event.total is None:
        return {"status": event.step}
    of = hashlib.sha256(f"{name} {event.step}".encode()).hexdigest()
    return {
        "status": f"{event.step} {name}",
        "digest": f"sha256:{of}",
        "total": round(event.total),
        "completed": round(event.done),
    }


async def last_of(documents: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return [found async for found in documents][-1]


async def begun(documents: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """The same once the second document is there: what fails before it is answered with a status of its own."""
    first, second = await anext(documents), await anext(documents)

    async def all_of() -> AsyncIterator[dict[str, Any]]:
        yield first
        yield second
        async for found in documents:
            yield found

    return all_of()
