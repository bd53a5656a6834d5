"""Models that many ask for: loaded when one is asked for, kept for a while, unloaded when room is needed.

Whoever uses a model borrows it; one that is lent, or pinned, is never unloaded. Of the others the least recently used
goes first. All of them share one budget of memory. How long a model stays is what each of those who use it wishes; the
wish of whoever owns them all, "", counts for everybody. Who wishes nothing leaves it to the model's preset, then to the
pool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Generic, Self, TypeVar

from filbert.core.errors import FilbertError, NotReady
from filbert.engine.budget import Budget, Held
from filbert.engine.load_options import LoadOptions
from filbert.engine.model import Model
from filbert.engine.slots import Apart
from filbert.models.store import StoredModel

M_co = TypeVar("M_co", covariant=True)
KEEP_S = 300.0
NO_ROOM_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. leaves_s: seconds until it is unloaded if nobody asks for it; None while it is in use, or kept
    for ever."""

    model: Model
    held: Sequence[Held]
    n_loans: int
    pinned: bool
    leaves_s: float | None

    @property
    def size_bytes(self) -> int:
        return self.held[0].size.weights + sum(child.size.own for child in self.held) if self.held else 0


@dataclass(slots=True)
class _Use:
    """Of a model by one owner: how long it is to stay after the last. wish: None where the owner has none."""

    wish: float | None
    otherwise: float
    last: float = field(default_factory=time.monotonic)

    @property
    def leaves_s(self) -> float:
        keep_s = self.otherwise if self.wish is None else self.wish
        return inf if keep_s < 0 else max(0.0, self.last + keep_s - time.monotonic())


@dataclass(eq=False, slots=True)
class _Place:
    """Of one model under one set of load options."""

    stored: StoredModel
    load: LoadOptions
    model: Model | None = None
    coming: Model | None = None  # while it loads
    n_loans: int = 0
    pinned: bool = False
    uses: dict[str, _Use] = field(default_factory=dict)  # by owner
    used: float = field(default_factory=time.monotonic)
    opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_idle(self) -> bool:
        return self.model is not None and not self.n_loans and not self.pinned

    @property
    def leaves_s(self) -> float | None:
        longest = max((use.leaves_s for use in self.uses.values()), default=0.0)
        return None if not self.is_idle or longest == inf else longest

    def begin(self, owner: str, wish: float | None, otherwise: float) -> None:
        if wish is not None and not owner:
            self.uses.clear()
        if wish is None and owner in self.uses:
            wish = self.uses[owner].wish
        self.uses[owner] = _Use(wish, otherwise)
        self.used = time.monotonic()
        self.n_loans += 1

    def end(self, owner: str) -> None:
        self.n_loans -= 1
        self.used = time.monotonic()
        if owner in self.uses:
            self.uses[owner].last = self.used

    def is_loaded_by(self, load: LoadOptions) -> bool:
        """Whether loading with these options would make the same again: also where they ask for the very context that
        was chosen here, or for more than the model was trained with."""
        if self.load is load:
            return True
        ours, theirs = self.load.model_dump(), load.model_dump()
        if self.model and load.context:
            theirs["context"] = min(load.context, self.model.header.context_length or load.context)
            ours["context"] = self.model.context
        return ours == theirs

    def is_as(self, stored: StoredModel) -> bool:
        """Whether what is loaded is still what the store holds under its name."""
        return _loaded_as(self.stored) == _loaded_as(stored)


class Loan(Generic[M_co]):
    """A model in use, until it is given back."""

    def __init__(self, model: M_co, give_back: Callable[[], None]) -> None:
        self.model = model
        self._give_back = give_back
        self._lock = threading.Lock()
        self._given = False

    def give_back(self) -> None:
        """Safe to call twice, and from any thread."""
        with self._lock:
            given, self._given = self._given, True
        if not given:
            self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.give_back()


class Pool:
    """load: how models are loaded where nobody says otherwise. keep_s: seconds that a model stays after its last use
    where its preset does not say, FOR_EVER for good. most: bytes that all may take; left out, what the machine has.
    apart: whether what one owner asked is kept from the others."""

    def __init__(
        self, load: LoadOptions, keep_s: float = KEEP_S, most: int | None = None, apart: Apart = "once_two_ask"
    ) -> None:
        self.load, self._keep_s, self._apart = load, keep_s, apart
        self._places: list[_Place] = []
        self._lock = threading.RLock()
        self._closed = False
        self.budget = Budget(most, self._reclaimable, self._reclaim, NO_ROOM_WAIT_S)

    def lend(
        self,
        stored: StoredModel,
        load: LoadOptions | None = None,
        keep_s: float | None = None,
        pinned: bool = False,
        owner: str = "",
    ) -> Loan[Model]:
        """The model, loaded if need be. keep_s: how long it stays from now on; owner: who uses it. Raises BadModelFile,
        BadInput, and NoRoom where all memory is lent for longer than NO_ROOM_WAIT_S."""
        place = self._taken(stored, load or self.load, keep_s, pinned, owner)
        try:
            with place.opening:  # two at once would take twice the memory
                model = place.model or self._opened(place)
        except BaseException:
            self._give_back(place, owner)
            raise
        return Loan(model, lambda: self._give_back(place, owner))

    def lend_loaded(
        self, stored: StoredModel, load: LoadOptions | None = None, keep_s: float | None = None, owner: str = ""
    ) -> Loan[Model] | None:
        """The same without any waiting; None where it has to be loaded first."""
        with self._lock:
            place = self._found(stored, load or self.load)
            if place is None or place.model is None:
                return None
            self._begin(place, stored, keep_s, owner)
            return Loan(place.model, lambda: self._give_back(place, owner))

    def loaded(self) -> list[Loaded]:
        """What is in memory, the last used first."""
        with self._lock:
            places = sorted((place for place in self._places if place.model), key=lambda place: -place.used)
            return [
                Loaded(place.model, place.model.children.held(), place.n_loans, place.pinned, place.leaves_s)
                for place in places
                if place.model
            ]

    def stop(self, name: str) -> bool:
        """Unload a model as soon as nobody uses it, pinned or not. False where none of that name is loaded."""
        with self._lock:
            found = [place for place in self._places if place.stored.name == name]
            for place in found:
                place.pinned = False
                place.uses.clear()
        self.sweep()
        return bool(found)

    def let_go(self, name: str, owner: str) -> None:
        """An owner needs a model no more: it is unloaded unless another does, or it is pinned."""
        with self._lock:
            for place in self._places:
                if place.stored.name == name:
                    place.uses = {other: use for other, use in place.uses.items() if owner not in ("", other)}
        self.sweep()

    def sweep(self) -> None:
        """Unload what was not asked for longer than it is kept."""
        with self._lock:
            over = [place for place in self._places if place.leaves_s == 0]
            self._forget(over)
        _close(over)

    def close(self) -> None:
        """Unload everything, in use, loading, or neither; whoever waits for a model is told."""
        with self._lock:
            self._closed = True
            places, self._places = self._places, []
        self.budget.tell_freed()
        _close(places)

    def _taken(self, stored: StoredModel, load: LoadOptions, keep_s: float | None, pinned: bool, owner: str) -> _Place:
        with self._lock:
            if self._closed:
                raise stopping()
            place = self._found(stored, load)
            if place is None:
                place = _Place(stored, load)
                self._places.append(place)
            place.pinned = place.pinned or pinned
            self._begin(place, stored, keep_s, owner)
            return place

    def _found(self, stored: StoredModel, load: LoadOptions) -> _Place | None:
        """A place that holds something older under this name is forgotten once nobody uses it."""
        for place in self._places:
            if place.stored.name == stored.name and place.is_loaded_by(load):
                if place.is_as(stored):
                    return place
                place.pinned = False
                place.uses.clear()
        return None

    def _begin(self, place: _Place, stored: StoredModel, keep_s: float | None, owner: str) -> None:
        stays_s = self._stays_s(stored)
        place.begin(owner, _granted(keep_s, owner, stays_s), stays_s)
        place.stored = stored
        if place.model:
            place.model.stored = stored  # what its preset says of answers may be new

    def _stays_s(self, stored: StoredModel) -> float:
        kept = stored.preset.keep_alive if stored.preset else None
        return self._keep_s if kept is None else kept

    def _opened(self, place: _Place) -> Model:
        self.sweep()  # what is outdated is not needed any more
        return self.budget.when_there_is_room(
            lambda: self._loaded(place, Model(place.stored, place.load, self.budget, apart=self._apart))
        )

    def _loaded(self, place: _Place, model: Model) -> Model:
        with self._lock:
            place.coming = model
        try:
            if not self._closed:
                model.wait_until_loaded()
        except FilbertError:
            if not self._closed:
                raise
        with self._lock:
            place.coming = None
            if not self._closed:
                place.model = model
                return model
        model.close()
        raise stopping()

    def _give_back(self, place: _Place, owner: str) -> None:
        with self._lock:
            place.end(owner)
            over = [place] if place.leaves_s == 0 or (place.model is None and not place.n_loans) else []
            self._forget(over)
        _close(over)
        self.budget.tell_freed()

    def _forget(self, places: Sequence[_Place]) -> None:
        self._places = [place for place in self._places if place not in places]

    def _idle(self) -> list[_Place]:
        return sorted((place for place in self._places if place.is_idle), key=lambda place: place.used)

    def _reclaimable(self) -> int:
        with self._lock:
            models = [place.model for place in self._idle() if place.model]
        return sum(child.size.own for model in models for child in model.children.held())

    def _reclaim(self) -> bool:
        with self._lock:
            oldest = self._idle()[:1]
            self._forget(oldest)
        _close(oldest)
        return bool(oldest)


def _close(places: Sequence[_Place]) -> None:
    for place in places:
        if model := place.model or place.coming:
            model.close()


def _granted(wish: float | None, owner: str, stays_s: float) -> float | None:
    """Of memory that belongs to others nobody takes more time than the model has anyway."""
    if wish is None or not owner or stays_s < 0:
        return wish
    return stays_s if wish < 0 else min(wish, stays_s)


def stopping() -> NotReady:
    return NotReady("The server is stopping.", do="Ask again when it runs.")


def _loaded_as(stored: StoredModel) -> tuple[object, ...]:
    """What a model has to be loaded again for when it changes."""
    return stored.path, stored.adapters, dict(stored.preset.load) if stored.preset else {}
