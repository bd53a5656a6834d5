"""A file that is somewhere else, and whether we may go there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from filbert.core.errors import OfflineRefused
from filbert.core.settings import Settings, configured
from filbert.models.catalogue import Role


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
            why="The network is forbidden (--offline, FILBERT_OFFLINE or the setting `offline`).",
            do="Pull it without that; `filbert config unset offline` takes the setting away.",
        )
