"""A file that is somewhere else, and whether we may go there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from filbert.core.errors import OfflineRefused
from filbert.core.settings import Settings, configured
from filbert.models.catalogue import Role
from filbert.models.manifest import installed_names

SHOWN = 5
FORBIDDEN = "The network is forbidden (--offline, FILBERT_OFFLINE or the setting `offline`)."


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a source offers. `sha256` is "" and `size_bytes` None until someone knows them. md5: of a list that
    knows no better hash, "" elsewhere.
    headers: sent to the host of `url` only, never kept."""

    role: Role
    name: str
    url: str
    size_bytes: int | None = None
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    md5: str = ""


def need_network(what: str) -> None:
    """Raises OfflineRefused where the network is forbidden; called before anything is contacted."""
    if configured(Settings).offline:
        raise OfflineRefused(
            f"{what} is not on this machine.",
            why=FORBIDDEN,
            do=f"{_here()} Without that it can be pulled; `filbert config unset offline` takes the setting away.",
        )


def _here() -> str:
    """What can be used all the same."""
    names = installed_names()
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    here = f"Here: {', '.join(names[:SHOWN])}{more}" if names else "No model is here yet"
    return f"{here}; `filbert import` takes files of yours."
