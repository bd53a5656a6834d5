"""The model of a command that names none: the setting `model`, or what is here instead of a starter that is not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from filbert.cli.chats import history
from filbert.cli.console import note
from filbert.core.errors import FilbertError
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.models.header import Kind
    from filbert.models.store import StoredModel

LATEST_CHATS = 20


def default_model(settings: Settings, kind: Kind = "language") -> str:
    """The setting. Where it is nobody's choice and its model is not here, another of that kind that is, which is told:
    the one of the latest chat, else the first by name."""
    from filbert.models.store import list_models

    found = [] if is_settled(settings) else of_kind(list_models(), kind)
    if not found:
        return settings.model
    names = [model.name for model in found]
    last = last_used(names, settings)
    why = "the only one of its kind here" if len(names) == 1 else "used last" if last else "the first by name"
    note(f"Taking {last or names[0]}, {why}: {settings.model} is not here. `-m NAME` names another.", settings)
    return last or names[0]


def is_settled(settings: Settings) -> bool:
    """Whether a person chose the setting `model`, or its model is here. Raises BadModelFile for one that is damaged."""
    from filbert.models.store import find

    return "model" in settings.model_fields_set or find(settings.model) is not None


def of_kind(models: Sequence[StoredModel], kind: Kind) -> list[StoredModel]:
    """Those of that kind, by name; of several names of one file the model's own."""
    own_last = sorted(models, key=lambda model: bool(model.preset and model.preset.is_stand_in))
    found: dict[object, StoredModel] = {}
    for model in own_last:
        if model.kind == kind:
            found.setdefault(model.path, model)
    return sorted(found.values(), key=lambda model: model.name)


def last_used(names: Sequence[str], settings: Settings) -> str:
    """The one of the latest chat; "" where no history tells it."""
    if not settings.history:
        return ""
    with suppress(FilbertError), history() as kept:
        if kept.file and not kept.file.exists():
            return ""
        return next((chat.model for chat in kept.chats(LATEST_CHATS) if chat.model in names), "")
    return ""
