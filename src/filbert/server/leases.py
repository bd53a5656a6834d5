"""The private socket: the CLI and the Python face of the same person use our models instead of loading them again.

engine/lease.py is its other end, and says what is spoken on it. A client that is gone gives everything back.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from filbert.core.errors import BadInput, FilbertError
from filbert.core.files import write_whole
from filbert.core.log import log
from filbert.core.runtime_folder import RuntimeFolder
from filbert.core.settings import checked
from filbert.engine.admission import Place
from filbert.engine.budget import Held
from filbert.engine.children import Children
from filbert.engine.lease import Said, error_told, line_of, running_server, server_file
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.pool import Loaded, Loan
from filbert.server.offered import Offered

LINE_BYTES = 1 << 20  # a chat template may come along


@asynccontextmanager
async def leasing(offered: Offered, url: str, stop: Callable[[], None]) -> AsyncIterator[None]:
    """While the block runs, other processes of this person find our models. Of several servers of a store the first
    does it."""
    if os.name != "posix" or running_server():
        log.info("no models are shared with other processes: a server of this store does so already, or no sockets are")
        yield
        return
    folder = RuntimeFolder()
    address = str(folder.path / "x.sock")
    desk = Desk(offered, stop)
    server = await asyncio.start_unix_server(desk.serve, address, limit=LINE_BYTES)
    server_file().parent.mkdir(parents=True, exist_ok=True)
    with write_whole(server_file()) as file:
        file.write(json.dumps({"socket": address, "url": url, "pid": os.getpid()}).encode())
    try:
        yield
    finally:
        server_file().unlink(missing_ok=True)
        server.close()
        desk.close()
        folder.remove()


class Desk:
    """Serves each connection in a task of its own."""

    def __init__(self, offered: Offered, stop: Callable[[], None]) -> None:
        self._offered, self._stop = offered, stop
        self._clients: set[asyncio.StreamWriter] = set()

    def close(self) -> None:
        for writer in self._clients:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            await self._answer(json.loads(await reader.readline()), reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError) as exc:  # gone, or no client of ours
            log.info("lease: %s", exc)
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, first: Said, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if "lease" in first:
                with await self._lent(first) as loan:
                    await Client(loan, writer).serve(reader)
            else:
                writer.write(line_of(await self._done(first)))
                await writer.drain()
        except FilbertError as exc:
            writer.write(line_of(error_told(exc)))
            await writer.drain()

    async def _lent(self, first: Said) -> Loan[Model]:
        load = self._offered.pool.load
        if first["load"]:
            wanted = checked(LoadOptions, first["load"])
            load = load.choosing(**{name: getattr(wanted, name) for name in wanted.model_fields_set})
        return await self._offered.lend(first["lease"], load)

    async def _done(self, said: Said) -> Said:
        match said.get("do"):
            case "ps":
                loaded = await asyncio.to_thread(self._offered.pool.loaded)
                return {"models": [told_of(each) for each in loaded], "servers": self._offered.upstreams.told()}
            case "stop":
                return {"stopped": await asyncio.to_thread(self._offered.pool.stop, said["model"])}
            case "end":
                self._stop()
                return {}
        raise BadInput("The server does not know what it is asked.", do="Use one version of Filbert.")


class Client:
    """Somebody who uses a model, and what they hold of it."""

    def __init__(self, loan: Loan[Model], writer: asyncio.StreamWriter) -> None:
        self._model, self._writer = loan.model, writer
        assert isinstance(loan.model.children, Children)
        self._children = loan.model.children
        self._places: dict[int, Place] = {}
        self._promised: list[Held] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        options = self._model.options.model_dump(mode="json") | {"context": self._model.context}
        self._writer.write(line_of({"load": options}))
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        finally:
            await self._leave()

    def _take(self, said: Said) -> None:
        if said["do"] == "back":
            if place := self._places.pop(said["number"], None):
                place.begun = said["begun"]
                place.give_back()
            return
        task = asyncio.create_task(self._answer(said))
        self._tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            log.error("fault", exc_info=fault)
            self._writer.close()  # whoever waits for the answer hears that none comes

    async def _answer(self, said: Said) -> None:
        try:
            told = await self._done(said)
        except FilbertError as exc:
            told = error_told(exc)
        if told is not None:
            self._writer.write(line_of({"id": said["id"], **told}))

    async def _done(self, said: Said) -> Said | None:
        match said["do"]:
            case "ask" | "ask_pooled":
                return await self._reached(said)
            case "socket":
                found = await self._model.waited(lambda: self._children.socket(said["role"]))
                return {"address": found.address, "secret": found.secret}
            case "end":
                await asyncio.to_thread(self._end, said["role"], said["address"])
                return {}
            case "scorer":
                self._promised.append(await self._model.waited(self._children.promise_scorer))
                return {}
        raise BadInput("The server does not know what it is asked.", do="Use one version of Filbert.")

    async def _reached(self, said: Said) -> Said | None:
        """None where it was given back before it was reached."""
        if said["do"] == "ask":
            place = self._children.ask(said["amount"], worker=said["worker"], marks=tuple(said["marks"]))
        else:
            place = self._children.ask_pooled(said["amount"])
        self._places[said["id"]] = place
        try:
            await asyncio.wrap_future(place.reached)
        except asyncio.CancelledError:
            if place.reached.cancelled():
                return None
            raise
        return {"fields": place.engine_fields}

    def _end(self, role: Any, address: str) -> None:
        worker = self._children.socket(role)
        if worker.address == address:
            self._children.end(role, worker)

    async def _leave(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for place in self._places.values():
            place.give_back()
        with suppress(ValueError):
            for promised in self._promised:
                self._children.forget(promised)


def told_of(loaded: Loaded) -> Said:
    return {
        "name": loaded.model.name,
        "size_bytes": loaded.size_bytes,
        "context": loaded.model.context,
        "in_use": loaded.n_loans,
        "pinned": loaded.pinned,
        "leaves_s": loaded.leaves_s,
        "parts": [child.part for child in loaded.held],
        "pids": [child.pid for child in loaded.held if child.pid],
    }
