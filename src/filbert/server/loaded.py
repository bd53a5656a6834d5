"""The models in use, each loaded when it is first named."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from filbert.core.errors import BadInput, BadModelFile
from filbert.core.log import log
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.models import catalogue, preset, store
from filbert.models.store import StoredModel


class Loaded:
    """Models by name: those of the store, and files that whoever started the server named."""

    def __init__(self, load: LoadOptions) -> None:
        self._load = load
        self._files: dict[str, StoredModel] = {}
        self._models: dict[str, Model] = {}
        self._coming: Model | None = None
        self._opening = asyncio.Lock()

    def add(self, stored: StoredModel) -> Model:
        """Load a model before there are requests. A file outside the store goes by its name without folder and ending,
        since no answer holds a path."""
        if not stored.pulled and not (stored.preset and stored.preset.is_stand_in):
            stems = [path.stem for path in (stored.path, *stored.adapters)]
            stored = replace(stored, name="+".join(stems))
            if stored.name in self._files:
                raise BadInput(f"Two files are called {stored.name}.", do="Rename one of them.")
            self._files[stored.name] = stored
        return self._open(stored)

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

    async def get(self, name: str) -> Model:
        """The model of that name, loaded if need be. Raises what `find` raises, BadModelFile."""
        stored = await asyncio.to_thread(self.find, name)
        if self._is_open(stored):
            return self._models[stored.name]
        async with self._opening:  # two at once would take twice the memory
            if not self._is_open(stored):
                await asyncio.to_thread(self._open_unnamed, stored)
            return self._models[stored.name]

    def close(self) -> None:
        """End every worker, also one that still loads; whoever waits for one is told."""
        for model in filter(None, (self._coming, *self._models.values())):
            model.close()

    def _is_open(self, stored: StoredModel) -> bool:
        model = self._models.get(stored.name)
        if model is None or _loaded_as(model.stored) != _loaded_as(stored):
            return False
        model.stored = stored  # what its preset says of answers may be new
        return True

    def _open_unnamed(self, stored: StoredModel) -> Model:
        """As `_open`, but no error names a file."""
        try:
            return self._open(stored)
        except BadModelFile as exc:
            raise _unusable(stored.name) from exc

    def _open(self, stored: StoredModel) -> Model:
        if before := self._models.pop(stored.name, None):  # the same name, pulled anew
            before.close()
        model = self._coming = Model(stored, self._load)
        try:
            model.wait_until_loaded()
        finally:
            self._coming = None
        self._models[stored.name] = model
        return model


def _loaded_as(stored: StoredModel) -> tuple[object, ...]:
    """What a model has to be loaded again for when it changes."""
    return stored.path, stored.adapters, dict(stored.preset.load) if stored.preset else {}


def _unusable(name: str) -> BadModelFile:
    log.warning("%s cannot be loaded", name, exc_info=True)
    return BadModelFile(
        f"{name} cannot be loaded.",
        why="Its file is damaged, or the engine does not know its kind.",
        do=f"`filbert show {name}` says more.",
    )
