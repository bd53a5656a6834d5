"""The models that may be asked for by name: those of the store, and files that whoever started the server named."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from filbert.core.errors import BadInput, BadModelFile
from filbert.core.log import log
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.pool import Loan, Pool
from filbert.models import catalogue, preset, store
from filbert.models.store import StoredModel


class Offered:
    """Names over a pool, which it closes when it ends."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._files: dict[str, StoredModel] = {}

    def add(self, stored: StoredModel) -> Model:
        """Load a model before there are requests, for good. A file outside the store goes by its name without folder
        and ending, since no answer holds a path."""
        if not stored.pulled and not (stored.preset and stored.preset.is_stand_in):
            stems = [path.stem for path in (stored.path, *stored.adapters)]
            stored = replace(stored, name="+".join(stems))
            if stored.name in self._files:
                raise BadInput(f"Two files are called {stored.name}.", do="Rename one of them.")
            self._files[stored.name] = stored
        with self.pool.lend(stored, pinned=True) as loan:
            return loan.model

    def known(self) -> list[StoredModel]:
        """Every model that can be asked for."""
        return [*self._files.values(), *store.list_models()]

    def find(self, name: str) -> StoredModel:
        """Raises UnknownModel with the nearest names; never another model. Raises BadModelFile."""
        if name in self._files:
            return self._files[name]
        try:
            return store.installed(name)
        except BadInput as exc:
            if name in preset.stand_in_names():
                raise  # what it stands for is gone
            raise catalogue.unknown(name, [stored.name for stored in self.known()]) from exc
        except BadModelFile as exc:
            raise _unusable(name) from exc

    async def lend(self, name: str, load: LoadOptions | None = None, keep_s: float | None = None) -> Loan:
        """The model of that name, loaded if need be. Raises what `find` and `Pool.lend` raise."""
        stored = await asyncio.to_thread(self.find, name)
        if loan := self.pool.lend_loaded(stored, load, keep_s):
            return loan
        lending = asyncio.ensure_future(asyncio.to_thread(self._lend, stored, load, keep_s))
        try:
            return await asyncio.shield(lending)
        except asyncio.CancelledError:  # the client left; what it asked for is loaded all the same
            lending.add_done_callback(_given_back)
            raise

    def close(self) -> None:
        self.pool.close()

    def _lend(self, stored: StoredModel, load: LoadOptions | None, keep_s: float | None) -> Loan:
        """As the pool's, but no error names a file."""
        try:
            return self.pool.lend(stored, load, keep_s)
        except BadModelFile as exc:
            raise _unusable(stored.name) from exc


def _given_back(lending: asyncio.Future[Loan]) -> None:
    if not lending.cancelled() and lending.exception() is None:
        lending.result().give_back()


def _unusable(name: str) -> BadModelFile:
    log.warning("%s cannot be loaded", name, exc_info=True)
    return BadModelFile(
        f"{name} cannot be loaded.",
        why="Its file is damaged, or the engine does not know its kind.",
        do=f"`filbert show {name}` says more.",
    )
