"""Images in a conversation: which models see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.models import catalogue
from filbert.models.store import StoredModel


def need_sight(stored: StoredModel, messages: Iterable[Message]) -> None:
    """Raises BadInput where a message holds an image and the model has no projector."""
    if any(message.has_images for message in messages):
        need_sight_of(stored)


def need_sight_of(stored: StoredModel) -> None:
    """Raises BadInput where the model has no projector."""
    if stored.projector is None:
        raise BadInput(
            f"{stored.name} cannot see images.", why="It has no projector.", do=f"Take a model that sees: {seeing()}."
        )


def n_images(body: Mapping[str, Any]) -> int:
    """In the messages of a worker's request."""
    contents = (message["content"] for message in body.get("messages", ()))
    return sum(part["type"] == "image_url" for content in contents if isinstance(content, list) for part in content)


def seeing() -> str:
    """The smallest models of the catalogue that see, for a sentence."""
    see = [entry for entry in catalogue.entries() if "vision" in entry.capabilities and entry.parameters]
    return ", ".join(dict.fromkeys(entry.short for entry in sorted(see, key=lambda entry: entry.parameters or 0)[:3]))
