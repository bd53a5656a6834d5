"""`hf:owner/repo…`: the Hugging Face hub or a mirror of it (HF_ENDPOINT), through the hub's own client.

The client says what there is (sizes, sha256, the commit); the bytes come through our downloader, which resumes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import ModelInfo, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but in no __all__

from filbert.core.errors import BadInput, DownloadFailed, UnknownModel
from filbert.core.files import safe_name
from filbert.core.jobs import Job
from filbert.core.sha256 import is_sha256
from filbert.models.download import download
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name, parse
from filbert.models.parts import SPLIT, is_projector, part_names
from filbert.models.quantisation import named_in
from filbert.models.remote import RemoteFile
from filbert.models.sources import Listing
from filbert.models.sources.hub_api import (
    answer_of,
    authorization,
    endpoint,
    lookup_errors,
    senseless_answers,
    unhurried,
)

PROJECTORS_BY_CHOICE = ("f16", "bf16", "q8_0", "f32")
SHOWN = 8


class Hub:
    """Asks the hub what a repository holds, and picks the model's files from it."""

    def __init__(self) -> None:
        self._endpoint = endpoint()

    def locate(self, name: Name, options: DownloadOptions) -> Listing:
        with hub_errors(name):
            with senseless_answers():
                info = repository(name, options)
                found = {file.rfilename: file for file in info.siblings or []}
            paths = choose(name, list(found))
            projector = choose_projector(paths[0], list(found))
            self.check_access(name, paths[0], info.sha, options)
            files = [
                self.remote(name, found[path], info.sha, "part" if index else "model")
                for index, path in enumerate(paths)
            ]
            if projector:
                files.append(self.remote(name, found[projector], info.sha, "projector"))
        licence = info.card_data.get("license") if info.card_data else None
        return Listing(tuple(files), info.sha or "", licence if isinstance(licence, str) else "")

    def offered(self, name: Name, options: DownloadOptions) -> list[tuple[str, str, int | None]]:
        """(name, quantisation, bytes) of each quantisation of the one model in a repository; none where it holds more
        than one."""
        with hub_errors(name), senseless_answers():
            info = repository(name, options)
            sizes = {file.rfilename: file.size for file in info.siblings or []}
        offered = list(_offered(name, sizes))
        bases = {path.lower().replace(quantisation, "") for path, quantisation, _ in offered}
        return offered if len({base.rpartition("/")[2] for base in bases}) == 1 else []

    def fetch(self, remote: RemoteFile, target: Path, options: DownloadOptions) -> Job[RemoteFile]:
        return (yield from download(remote, target, options))

    def check_access(self, name: Name, path: str, commit: str | None, options: DownloadOptions) -> None:
        """Everybody may read the list of a gated repository; whether we may read its files shows only here."""
        with unhurried(), senseless_answers():
            get_hf_file_metadata(self._url(name, path, commit), endpoint=self._endpoint, timeout=options.stall_s)

    def _url(self, name: Name, path: str, commit: str | None) -> str:
        return str(hf_hub_url(name.where, path, revision=commit, endpoint=self._endpoint))

    def remote(self, name: Name, file: Any, commit: str | None, role: Any) -> RemoteFile:
        return remote_file(file, self._url(name, file.rfilename, commit), role)


def remote_file(file: Any, url: str, role: Any) -> RemoteFile:
    """file: as the client tells of one in a repository."""
    sha256 = str(file.lfs.sha256).lower() if file.lfs else ""
    known = sha256 if is_sha256(sha256) else ""
    return RemoteFile(role, safe_name(PurePosixPath(file.rfilename).name), url, file.size, known, authorization())


def repository(name: Name, options: DownloadOptions) -> ModelInfo:
    """What the hub tells of a repository, as its client's `model_info` reads it, which reads answers of any length."""
    validate_repo_id(name.where)
    told = json.loads(answer_of(f"/api/models/{name.where}", {"blobs": True}, options.stall_s))
    return ModelInfo(**told)  # type: ignore[no-untyped-call]


def choose(name: Name, found: Sequence[str]) -> list[str]:
    """The paths in the repository of the one model that `name` means: several when it is split."""
    if name.which.lower().endswith(".gguf"):
        return _parts(name, name.which, found)
    models = [path for path in found if path.lower().endswith(".gguf") and not is_projector(path) and _is_first(path)]
    fitting = [path for path in models if _has_quantisation(path, name.which)] if name.which else models
    plain = [
        path for path in fitting if "UD-" in name.which or "UD-" not in path
    ] or fitting  # "UD-Q4_K_M" is another kind
    if len(plain) == 1:
        return _parts(name, plain[0], found)
    raise _not_one(name, plain or models, ambiguous=bool(plain))


def _offered(name: Name, sizes: Mapping[str, int | None]) -> Iterator[tuple[str, str, int | None]]:
    for path in sizes:
        quantisation = named_in(path)
        if not quantisation or not path.lower().endswith(".gguf") or is_projector(path) or not _is_first(path):
            continue
        if "UD-" in path or f"hf:{name.where}/{path}" != parse(f"hf:{name.where}/{path}").text:
            continue
        parts = [sizes.get(part) for part in _parts(name, path, list(sizes))]
        known = [size for size in parts if size is not None]
        yield f"hf:{name.where}/{path}", quantisation, sum(known) if len(known) == len(parts) else None


def _is_first(path: str) -> bool:
    match = SPLIT.fullmatch(path)
    return not match or int(match["number"]) == 1


def _has_quantisation(path: str, quantisation: str) -> bool:
    """Whether the file's name, or the folder it lies in, holds the label as a word of its own."""
    return any(
        re.search(rf"(^|[-._]){re.escape(quantisation)}($|[-.])", part, re.IGNORECASE) for part in path.split("/")[-2:]
    )


def _parts(name: Name, path: str, found: Sequence[str]) -> list[str]:
    folder = path.rpartition("/")[0]
    paths = [f"{folder}/{part}" if folder else part for part in part_names(path.rpartition("/")[2])]
    missing = [path for path in paths if path not in found]
    if missing:
        there = [path for path in found if path.lower().endswith(".gguf")]
        raise UnknownModel(f"{name.where} has no {missing[0]}.", why=_listed(there), do="Check the spelling.")
    return paths


def _not_one(name: Name, candidates: Sequence[str], *, ambiguous: bool) -> UnknownModel:
    if not candidates:
        return UnknownModel(f"{name.where} has no GGUF file.", do="Look for a repository whose name ends in GGUF.")
    what = f"{name.text} fits {len(candidates)} files." if ambiguous else f"{name.where} has no {name.which}."
    return UnknownModel(what, why=_listed(candidates), do=f"Name one: hf:{name.where}/{candidates[0]}")


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"It has {', '.join(sorted(paths)[:SHOWN])}{more}." if paths else "It has no GGUF file."


def choose_projector(model: str, found: Sequence[str]) -> str | None:
    """The vision projector that belongs to a model file, the best one where there are several."""
    folder, _, last = model.rpartition("/")
    if is_projector(last):
        return None
    near = [path for path in found if path.rpartition("/")[0] in (folder, "") and _is_projector_file(path)]
    return min(near, key=lambda path: (path.rpartition("/")[0] != folder, _choice(path), path), default=None)


def _is_projector_file(path: str) -> bool:
    return path.lower().endswith(".gguf") and is_projector(path.rpartition("/")[2])


def _choice(path: str) -> int:
    kinds = [index for index, kind in enumerate(PROJECTORS_BY_CHOICE) if _has_quantisation(path, kind)]
    return min(kinds, default=len(PROJECTORS_BY_CHOICE))


@contextmanager
def hub_errors(name: Name) -> Iterator[None]:
    """The hub client's errors in our words, of a question about one repository."""
    with lookup_errors(name.text):
        try:
            yield
        except GatedRepoError as exc:
            raise DownloadFailed(
                f"{name.where} is gated.",
                why="Its owner wants you to accept its terms.",
                do="Accept them on its page, then set HF_TOKEN.",
            ) from exc
        except RepositoryNotFoundError as exc:
            raise UnknownModel(
                f"The hub has no {name.where}.",
                why="It does not exist, or it is private.",
                do="Check the spelling, or set HF_TOKEN.",
            ) from exc
        except EntryNotFoundError as exc:
            raise UnknownModel(f"The hub has no file for {name.text}.", do="Check the spelling.") from exc
        except HFValidationError as exc:
            raise BadInput(f"{name.where!r} is no repository's name.", do="It looks like owner/repo.") from exc
