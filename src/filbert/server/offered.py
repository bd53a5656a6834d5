"""The models that may be asked for by name: those of the store, files that whoever started the server named, and
those of other servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from filbert.core.errors import BadInput, BadModelFile, FilbertError, UnknownModel
from filbert.core.log import log
from filbert.engine.admission import busy
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.pool import Loaded, Loan, Pool
from filbert.engine.waiting import Threads
from filbert.models import catalogue, preset, store
from filbert.models.modelfile import named_by_ollama
from filbert.models.preset import UnknownAdapter
from filbert.models.store import StoredModel
from filbert.server.lent import Lent
from filbert.server.upstreams.model import RemoteModel
from filbert.server.upstreams.registry import Upstreams

MOST_LOADING = 16  # models at once; they wait for room, and for disks
LOADING_AGAIN_S = 10
# Of the request under way: the names that its key may see, None for all. What a route asks is always answered within
# them, so that none can forget to look.
MODELS_SHOWN: ContextVar[frozenset[str] | None] = ContextVar("models_shown", default=None)
# And whose wish it is how long a model stays: a key's, or "" of those who may do everything.
KEPT_FOR: ContextVar[str] = ContextVar("kept_for", default="")


def is_shown(*names: str) -> bool:
    """Whether a model is there for whoever asks. names: those that it goes by."""
    shown = MODELS_SHOWN.get()
    return shown is None or not shown.isdisjoint(names)


class Offered:
    """Names over a pool, which it closes when it ends. only_added: whether nothing of the store is offered but what was
    added."""

    def __init__(self, pool: Pool, only_added: bool = False, upstreams: Upstreams | None = None) -> None:
        self.pool = pool
        self.upstreams = upstreams or Upstreams({})
        self._only_added = only_added
        self._added: set[str] = set()
        self._files: dict[str, StoredModel] = {}
        self._coming: dict[tuple[str, str], _Coming] = {}
        self._threads = Threads(MOST_LOADING)

    def add(self, stored: StoredModel) -> Model:
        """Load a model before anybody asks for it, for good, and warm it up. A file outside the store goes by its name
        without folder and ending, since no answer holds a path."""
        if not stored.pulled and not (stored.preset and stored.preset.is_stand_in):
            stems = [path.stem for path in (stored.path, *stored.adapters)]
            stored = replace(stored, name="+".join(stems))
            if stored.name in self._files:
                raise BadInput(f"Two files are called {stored.name}.", do="Rename one of them.")
            self._files[stored.name] = stored
        self._added.add(stored.name)
        with self.pool.lend(stored, pinned=True) as loan:
            loan.model.warm_up()
            return loan.model

    def known(self) -> list[StoredModel]:
        """Every model here that can be asked for."""
        return [stored for stored in (*self._files.values(), *store.list_models()) if self._shows(stored.name)]

    def remote(self, name: str) -> RemoteModel | None:
        """The model of that name on another server."""
        found = self.upstreams.named(name)
        return found if found and is_shown(name, found.name) else None

    def remotes(self) -> list[RemoteModel]:
        """Every model of another server that can be asked for."""
        return [each for each in self.upstreams.known() if is_shown(each.name)]

    def everything(self) -> list[StoredModel | RemoteModel]:
        """Both."""
        return [*self.known(), *self.remotes()]

    def loaded(self) -> list[Loaded]:
        """Those of them that are in memory, or on their way into it."""
        return [each for each in self.pool.loaded() if self._shows(each.model.name)]

    def look_up(self, name: str) -> StoredModel | RemoteModel:
        """Either. Raises what `find` raises, and UpstreamDown for a server that did not tell yet what it has."""
        remote = self.remote(name)
        if remote and remote.upstream.models is None:
            raise remote.upstream.down()
        return remote or self.find(name)

    def find(self, name: str) -> StoredModel:
        """A model that is here. Raises UnknownModel with the nearest names; never another model, and none that is not
        shown. Raises BadModelFile."""
        if remote := self.remote(name):
            raise BadInput(f"{remote.name} is on another server.", do="Ask that server for this.")
        try:
            stored = self._find(name)
        except (BadInput, BadModelFile):
            if not self._shows(name):
                raise self._unknown(name) from None
            raise
        if not self._shows(name, stored.name):
            raise self._unknown(name)
        return stored

    def _found_at_once(self, name: str) -> StoredModel | None:
        """As `find`, for one that is there: what is wrong with any other takes a look at all of them."""
        try:
            stored = self._files.get(name) or store.named(name)
        except FilbertError:
            return None
        return stored if stored and self._shows(name, stored.name) else None

    def _shows(self, *names: str) -> bool:
        return is_shown(*names) and not (self._only_added and self._added.isdisjoint(names))

    def _find(self, name: str) -> StoredModel:
        """Also as Ollama's clients write a name: x:latest where there is only x."""
        try:
            return self._named(name)
        except UnknownModel:
            if (ours := named_by_ollama(name)) == name:
                raise
            return self._named(ours)

    def _named(self, name: str) -> StoredModel:
        if name in self._files:
            return self._files[name]
        try:
            return store.installed(name)
        except UnknownAdapter as exc:
            raise self._unknown_adapter(exc.name) from exc
        except BadInput as exc:
            if name in preset.stand_in_names():
                raise  # what it stands for is gone
            raise self._unknown(name) from exc
        except BadModelFile as exc:
            raise unusable(name) from exc

    def _unknown(self, name: str) -> UnknownModel:
        return catalogue.unknown(name, [each.name for each in self.everything()])

    def adapter(self, name: str, sha256: str = "") -> StoredModel:
        """One that is installed, by its name or its file's hash. Raises UnknownModel with the nearest names."""
        for stored in self._adapters():
            if stored.name == name or (sha256 and stored.known_sha256 == sha256):
                return stored
        raise self._unknown_adapter(name)

    def _adapters(self) -> list[StoredModel]:
        return [stored for stored in self.known() if stored.kind == "adapter"]

    def _unknown_adapter(self, name: str) -> UnknownAdapter:
        names = [stored.name for stored in self._adapters()]
        do = "`GET /v1/models` lists those that are here, with the kind `adapter`."
        return UnknownAdapter(name, names, do)

    def lend_at_once(
        self, name: str, load: LoadOptions | None = None, keep_s: float | None = None
    ) -> Loan[Lent] | None:
        """The model of that name; None where it has to be loaded, or is none. For one on another server the rest means
        nothing. Raises UpstreamDown."""
        if remote := self.remote(name):
            remote.upstream.need_up()
            return Loan[Lent](remote, lambda: None)
        stored = self._found_at_once(name)
        return self.pool.lend_loaded(stored, load, keep_s, KEPT_FOR.get()) if stored else None

    async def lend(
        self,
        name: str,
        load: LoadOptions | None = None,
        keep_s: float | None = None,
        most_waiting: int | None = None,
    ) -> Loan[Model]:
        """A model that is here, loaded if need be: once for all who wait for it, and also where they leave. Raises what
        `find` and `Pool.lend` raise, and Busy where so many wait already."""
        stored = await asyncio.to_thread(self.find, name)
        while not (loan := self.pool.lend_loaded(stored, load, keep_s, KEPT_FOR.get())):
            coming = self._loading(stored, load, keep_s)
            if most_waiting is not None and coming.n_waiting > most_waiting:
                raise busy(coming.n_waiting, LOADING_AGAIN_S)
            with coming.awaited():
                await asyncio.shield(coming.lending)
                if loan := self.pool.lend_loaded(stored, load, keep_s, KEPT_FOR.get()):
                    break
        return loan

    def _loading(self, stored: StoredModel, load: LoadOptions | None, keep_s: float | None) -> _Coming:
        what = stored.name, load.model_dump_json() if load else ""
        if what not in self._coming:
            lending = asyncio.ensure_future(self._threads.run(lambda: self._lend(stored, load, keep_s)))
            lending.add_done_callback(lambda _: self._coming.pop(what))
            self._coming[what] = _Coming(lending)
        return self._coming[what]

    def let_go(self, name: str) -> None:
        """Whoever asks needs a model no more. Raises UnknownModel."""
        if not self.remote(name):
            self.pool.let_go(self.find(name).name, KEPT_FOR.get())

    def delete(self, stored: StoredModel) -> None:
        """Take a model from the store, and out of memory once nobody uses it. Raises BadInput for a file that lies
        elsewhere."""
        if stored.name in self._files:
            raise BadInput(f"{stored.name} is a file outside the store.", do="Delete it where it lies.")
        store.remove(stored.name)
        self.pool.stop(stored.name)

    def sweep(self) -> None:
        """Unload what another program took from the store, once nobody uses it."""
        for each in self.pool.loaded():
            if not self._is_there(each.model.name):
                self.pool.stop(each.model.name)

    def _is_there(self, name: str) -> bool:
        try:
            return name in self._files or store.named(name) is not None
        except (BadInput, BadModelFile):
            return False

    def close(self) -> None:
        self.pool.close()

    def _lend(self, stored: StoredModel, load: LoadOptions | None, keep_s: float | None) -> Loan[Model]:
        """As the pool's, but no error names a file."""
        try:
            return self.pool.lend(stored, load, keep_s, owner=KEPT_FOR.get())
        except BadModelFile as exc:
            raise unusable(stored.name) from exc


@dataclass(eq=False, slots=True)
class _Coming:
    """A model on its way into memory, where it is held until whoever waited for it has borrowed it."""

    lending: asyncio.Future[Loan[Model]]
    n_waiting: int = 0

    @contextmanager
    def awaited(self) -> Iterator[None]:
        self.n_waiting += 1
        try:
            yield
        finally:
            self.n_waiting -= 1
            if not self.n_waiting:
                self.lending.add_done_callback(_given_back)


def _given_back(lending: asyncio.Future[Loan[Model]]) -> None:
    if not lending.cancelled() and lending.exception() is None:
        lending.result().give_back()


def unusable(name: str) -> BadModelFile:
    """Of a model whose file is broken or gone, in words that name no file."""
    log.warning("%s cannot be loaded", name, exc_info=True)
    return BadModelFile(
        f"{name} cannot be loaded.",
        why="Its file is damaged, or the engine does not know its kind.",
        do=f"`filbert show {name}` says more.",
    )
