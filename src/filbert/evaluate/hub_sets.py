"""Sets of the hub, or of its mirror in HF_ENDPOINT: the Parquet files into which it converts each by itself, so that no
script of a set is ever run.

    <datasets>/hub/<owner>/<set>/<configuration>/<split>/0000.parquet …    <- refs/convert/parquet
                                                        /complete          the conversion's commit
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import DatasetInfo, hf_hub_url
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but in no __all__

from filbert.core import paths
from filbert.core.errors import BadInput
from filbert.core.files import locked, safe_name, write_whole
from filbert.core.jobs import Job, Progress
from filbert.models.download import download
from filbert.models.download_options import DownloadOptions
from filbert.models.name import Name
from filbert.models.remote import RemoteFile, need_network
from filbert.models.sources.hub import hub_errors, remote_file
from filbert.models.sources.hub_api import answer_of, endpoint, senseless_answers

REVISION = "refs/convert/parquet"
DONE = "complete"


def kept(dataset: str, config: str | None, split: str) -> Sequence[Path]:
    """The files of a split that were fetched before, none where it was not."""
    folder = _folder(dataset, config, split)
    return sorted(folder.glob("*.parquet")) if (folder / DONE).exists() else []


def fetched(dataset: str, config: str | None, split: str, options: DownloadOptions) -> Job[Sequence[Path]]:
    """config: None for the only one. Raises UnknownModel where the hub has no such set, BadInput where the set has no
    such split, DownloadFailed, OfflineRefused."""
    folder = _folder(dataset, config, split)
    with locked(folder.with_suffix(".lock")):
        if not kept(dataset, config, split):
            need_network(dataset)
            yield Progress(f"asking for {dataset}")
            commit, files = _listed(dataset, config, split, options)
            for file in files:
                yield from download(file, folder / file.name, options)
            with write_whole(folder / DONE) as done:
                done.write(commit.encode())
    return kept(dataset, config, split)


def _folder(dataset: str, config: str | None, split: str) -> Path:
    parts = [*dataset.split("/"), config or "only", split]
    return paths.datasets_folder().joinpath("hub", *map(safe_name, parts))


def _listed(dataset: str, config: str | None, split: str, options: DownloadOptions) -> tuple[str, list[RemoteFile]]:
    with hub_errors(Name("hf", dataset, dataset)), senseless_answers():
        validate_repo_id(dataset)
        told = json.loads(
            answer_of(f"/api/datasets/{dataset}/revision/{quote(REVISION, safe='')}", {"blobs": True}, options.stall_s)
        )
        info = DatasetInfo(**told)  # type: ignore[no-untyped-call]
        found = [file for file in info.siblings or [] if file.rfilename.endswith(".parquet")]
        chosen = _config(dataset, config, split, [file.rfilename for file in found])
        files = [
            remote_file(file, _url(dataset, file.rfilename), "part")
            for file in found
            if _place(file.rfilename) == (chosen, split)
        ]
        return info.sha or "", files


def _config(dataset: str, config: str | None, split: str, found: Sequence[str]) -> str:
    places = dict.fromkeys(map(_place, found))
    fitting = [name for name, its in places if its == split and config in (None, name)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join("/".join(place) for place in list(places)[:8])
    wanted = f"{config}/{split}" if config else split
    raise BadInput(
        f"{dataset} has {'several' if fitting else 'no'} {wanted} on the hub.",
        why=f"It has {there}." if there else "The hub has not converted it to Parquet.",
        do="Name the configuration in the task's file as dataset_name, or give the documents with --data.",
    )


def _place(path: str) -> tuple[str, str]:
    config, _, rest = path.partition("/")
    return config, rest.rpartition("/")[0]


def _url(dataset: str, path: str) -> str:
    return str(hf_hub_url(dataset, path, repo_type="dataset", revision=REVISION, endpoint=endpoint()))
