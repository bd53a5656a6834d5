"""A model that a running server of the same store holds: its workers are asked directly, its context is shared.

    <data>/server.json    where the server listens: {"socket", "url", "pid"}, written when it does

The private socket lies in a folder that only its owner enters, and speaks a JSON document a line. A client says once
what it wants ({"lease": name, "load": {…}}), and keeps the connection for as long as it uses the model; what it had is
given back when the connection ends, however it ends. On it, it asks for a share of the context before each answer, as
the server's own requests do, and for the socket of a worker, to which it then talks itself.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filbert.core import errors, paths
from filbert.core.errors import EngineCrashed, EngineStalled, FilbertError
from filbert.engine.admission import Place
from filbert.engine.budget import Held
from filbert.engine.children import Children
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan, Role
from filbert.engine.slots import Marks
from filbert.engine.transport import Event, Exchange, WorkerSocket
from filbert.models.store import StoredModel

if TYPE_CHECKING:
    from filbert.engine.scorer import Scorer

CONNECT_S = 2.0
Said = dict[str, Any]


def server_file() -> Path:
    return paths.data_folder() / "server.json"


def running_server() -> Said | None:
    """What `server.json` says of a server that runs: socket, url, pid; None where none does."""
    try:
        said: Said = json.loads(server_file().read_text("utf-8"))
        with _connected(said["socket"]):
            return said
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask_server(said: Mapping[str, Any], wait_s: float = 60) -> Said | None:
    """The server's answer to one document; None where no server runs. Raises what it says went wrong."""
    server = running_server()
    if server is None:
        return None
    with _connected(server["socket"]) as connection:
        connection.settimeout(wait_s)
        connection.sendall(line_of(said))
        with connection.makefile("rb") as heard:
            return read_answer(heard.readline())


def lease(stored: StoredModel, load: LoadOptions) -> Lease | None:
    """The model as a running server has it, loaded there if need be; None where no server runs, or none that knows it.
    load: what was chosen of it by a flag, a variable or the caller is asked of the server. Raises what it refuses."""
    server = running_server() if stored.pulled else None  # a file outside the store has no name there
    if server is None:
        return None
    return Lease(_connected(server["socket"]), stored.name, load)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question under way. answer: what the server says, when it does."""

    number: int
    answer: Future[Said]


class Lease:
    """A connection to the server for one model. options: how it is loaded there."""

    def __init__(self, connection: socket.socket, name: str, load: LoadOptions) -> None:
        self._connection = connection
        self._ids = count(1)
        self._sending = threading.Lock()
        self._asked: dict[int, Future[Said]] = {}
        self._heard = connection.makefile("rb")
        self.open = True
        self._say({"lease": name, "load": load.chosen()})
        connection.settimeout(None)
        told = read_answer(self._heard.readline())
        self.options = LoadOptions(**told["load"])
        threading.Thread(target=self._listen, name="filbert-lease", daemon=True).start()

    def ask(self, do: str, **said: Any) -> Asked:
        """Raises EngineCrashed, at once or through the answer, when the server is gone."""
        asked = Asked(next(self._ids), Future())
        self._asked[asked.number] = asked.answer
        try:
            self._say({"id": asked.number, "do": do, **said})
        except OSError as exc:
            raise gone() from exc
        return asked

    def tell(self, **said: Any) -> None:
        with suppress(OSError):
            self._say(said)

    def close(self) -> None:
        self.open = False
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _say(self, said: Said) -> None:
        with self._sending:
            self._connection.sendall(line_of(said))

    def _listen(self) -> None:
        with suppress(OSError, ValueError):
            for line in self._heard:
                self._hear(line)
        self.open = False
        while self._asked:
            self._asked.popitem()[1].set_exception(gone())

    def _hear(self, line: bytes) -> None:
        said: Said = json.loads(line)
        answer = self._asked.pop(said["id"])
        if "error" in said:
            answer.set_exception(told_error(said["error"]))
        else:
            answer.set_result(said)


class Leased:
    """The children of a model that a server holds. When the server ends, the model gets children of its own."""

    def __init__(self, plan: LoadPlan, lease: Lease) -> None:
        self.name, self.plan = plan.stored.name, plan
        self._lease = lease
        self._own = Children(plan)
        self._sockets: dict[str, WorkerSocket] = {}

    def close(self) -> None:
        self._lease.close()
        self._own.close()

    def ask(
        self, tokens: int, owner: str = "", most_waiting: int | None = None, worker: str = "", marks: Marks = ()
    ) -> Place:
        """The server takes everybody of one machine for one owner."""
        if not self._lease.open:
            return self._own.ask(tokens)
        return self._place("ask", amount=tokens, worker=worker, marks=marks)

    def ask_pooled(self, texts: int, owner: str = "", most_waiting: int | None = None) -> Place:
        return self._place("ask_pooled", amount=texts) if self._lease.open else self._own.ask_pooled(texts)

    def ask_scorer(self, owner: str = "", most_waiting: int | None = None) -> Place:
        return self._own.ask_scorer(owner, most_waiting)

    @property
    def counts(self) -> tuple[int, int]:
        return self._own.counts

    def socket(self, role: Role) -> WorkerSocket:
        if not self._lease.open:
            return self._own.socket(role)
        told = self._lease.ask("socket", role=role).answer.result()
        known = self._sockets.get(told["address"])
        if known is None:
            known = self._sockets[told["address"]] = WorkerSocket(
                told["address"], told["secret"], self.plan.options.stall_s
            )
        return known

    def socket_at_once(self, role: Role) -> WorkerSocket | None:
        """None: the server that has it is asked."""
        return None

    def send(self, role: Role, route: str, body: Mapping[str, Any], more_s: float = 0) -> Exchange:
        if not self._lease.open:
            return self._own.send(role, route, body, more_s)
        worker = self.socket(role)
        return _Watched(worker.send(route, body, more_s), lambda: self.end(role, worker))

    def end(self, role: Role, socket: WorkerSocket) -> None:
        if self._lease.open:
            self._lease.ask("end", role=role, address=socket.address).answer.result()
        else:
            self._own.end(role, socket)

    @property
    def scorer(self) -> Scorer:
        """Of this process, since its figures pass through its pipes; the server counts its memory."""
        if self._lease.open:
            self._lease.ask("scorer").answer.result()
        return self._own.scorer

    def held(self) -> Sequence[Held]:
        return self._own.held()

    def _place(self, do: str, amount: int, **said: Any) -> Place:
        asked = self._lease.ask(do, amount=amount, **said)
        place = Place(_Share(self._lease, asked.number), amount)
        asked.answer.add_done_callback(lambda answer: _reached(place, answer))
        return place


@dataclass(frozen=True, slots=True)
class _Share:
    """A share of the context that the server admitted, or will."""

    lease: Lease
    number: int

    def take_back(self, place: Place) -> None:
        place.reached.cancel()
        self.lease.tell(do="back", number=self.number, begun=place.begun)


def _reached(place: Place, answer: Future[Said]) -> None:
    if not place.reached.set_running_or_notify_cancel():
        return
    if error := answer.exception():
        place.reached.set_exception(error)
    else:
        place.engine_fields = answer.result()["fields"]
        place.reached.set_result(None)


@dataclass(frozen=True, slots=True)
class _Watched:
    """An exchange whose worker the server ends when it hangs."""

    exchange: Exchange
    end: Callable[[], None]

    def cancel(self) -> None:
        self.exchange.cancel()

    def __iter__(self) -> Iterator[Event]:
        try:
            yield from self.exchange
        except EngineStalled:
            self.end()
            raise


def gone() -> EngineCrashed:
    return EngineCrashed("The server that ran the model has ended.", do="Ask again: the model is then loaded here.")


def line_of(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def read_answer(line: bytes) -> Said:
    """Raises the error that the server told, or EngineCrashed where it told nothing."""
    if not line:
        raise gone()
    said: Said = json.loads(line)
    if "error" in said:
        raise told_error(said["error"])
    return said


def told_error(said: Mapping[str, str]) -> FilbertError:
    """An error as it crossed the socket."""
    return errors.of_code(said["code"])(said["what"], why=said["why"], do=said["do"])


def error_told(error: FilbertError) -> Said:
    return {"error": {"code": error.code, "what": error.what, "why": error.why, "do": error.do}}


def _connected(address: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.settimeout(CONNECT_S)
        found.connect(address)
    except OSError:
        found.close()
        raise
    return found
