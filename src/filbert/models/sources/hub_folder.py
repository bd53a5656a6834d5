"""`hf:owner/repo` as a folder of weights, JSON and tokenizers: what a model file is made of.

<sources>/hub/<owner>/<repo>/…           what a converter may see, as it lies there
                            /.complete   the commit of which all of it is here; .settings: all but the weights
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from filbert.core import paths
from filbert.core.files import locked, need_room, safe_name, write_whole
from filbert.core.jobs import Job, Progress
from filbert.models.download import download
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name
from filbert.models.remote import RemoteFile, need_network
from filbert.models.sources.hub import Hub, hub_errors, repository
from filbert.models.sources.hub_api import senseless_answers
from filbert.models.weights_folder import CONFIG, Stem, taken, weights_among

WHOLE, SETTINGS = ".complete", ".settings"


def fetched(name: Name, options: DownloadOptions, stem: Stem | None = "model") -> Job[Path]:
    """stem: of the weights that are wanted, None for all but weights. Raises UnknownModel, BadInput where there are no
    such weights, DownloadFailed, OfflineRefused."""
    folder = paths.sources_folder().joinpath("hub", *map(safe_name, name.where.split("/")))
    marks = [WHOLE] if stem else [WHOLE, SETTINGS]
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not any((folder / mark).exists() for mark in marks):
            need_network(name.text)
            yield Progress(f"looking up {name.text}")
            commit, files = _listed(name, options, stem)
            need_room(folder, sum(file.size_bytes or 0 for path, file in files if not (folder / path).exists()))
            for path, file in files:
                yield from download(file, folder / path, options)
            with write_whole(folder / marks[-1]) as mark:
                mark.write(commit.encode())
    return folder


def _listed(name: Name, options: DownloadOptions, stem: Stem | None) -> tuple[str, list[tuple[str, RemoteFile]]]:
    hub = Hub()
    with hub_errors(name):
        with senseless_answers():
            info = repository(name, options)
            found = {file.rfilename: file for file in info.siblings or []}
        weights = weights_among(found, stem, name.where) if stem else []
        if first := next(iter(weights), None) or next((path for path in CONFIG.values() if path in found), None):
            hub.check_access(name, first, info.sha, options)
    wanted = [path for path in taken(found) if path in weights or "/" in path or not path.endswith(".safetensors")]
    return info.sha or "", [(_safe(path), hub.remote(name, found[path], info.sha, "part")) for path in wanted]


def _safe(path: str) -> str:
    """Each step of it a plain name: what a hub tells never leads out of our folder."""
    return "/".join(map(safe_name, PurePosixPath(path).parts))
