"""A release uploaded to the hub, or a mirror of it (HF_ENDPOINT), through the hub's own client.

What its index names goes up, and nothing else that lies in the folder. The token is that of the client: HF_TOKEN, or
what `hf auth login` kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filbert.compress.card import card_of
from filbert.compress.release import CHART, INDEX, README, SUMS
from filbert.core.errors import BadInput, DownloadFailed, OfflineRefused
from filbert.core.files import safe_name, sha256_of
from filbert.core.jobs import Job, Progress
from filbert.core.settings import Settings, configured
from filbert.models.name import parse
from filbert.models.remote import FORBIDDEN

LOGIN = "Set HF_TOKEN to a token that may write, or run `hf auth login`."


@dataclass(frozen=True)
class Upload:
    """repo: owner/name. hashes: of the model files, by name; sizes: bytes of everything that goes up, by name."""

    folder: Path
    repo: str
    hashes: dict[str, str]
    sizes: dict[str, int]


def upload_of(folder: Path, to: str) -> Upload:
    """What would go up; nothing is contacted. to: hf:owner/repo. Raises BadInput for what is no release, or not
    whole."""
    name = parse(to)
    if name.scheme != "hf" or name.which:
        raise BadInput(f"{to} is no repository of the hub.", do="Write it as hf:owner/repo.")
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        hashes = {safe_name(file["name"]): str(file["sha256"]) for each in index for file in each["files"]}
        cards = [card_of(folder / each["files"][0]["name"]).name for each in index]
        if not hashes:
            raise ValueError("it names no file")
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as exc:
        raise BadInput(
            f"{folder} is no release.",
            why=f"It has no {INDEX} that tells of its files.",
            do="Make one with `filbert compress MODEL --batch Q8_0,Q4_K_M -o FOLDER`.",
        ) from exc
    names = [README, INDEX, SUMS, *([CHART] if (folder / CHART).exists() else []), *cards, *hashes]
    if linked := next((name for name in names if (folder / name).is_symlink()), None):
        raise BadInput(
            f"{folder / linked} is a link.", why="What it leads to is not of the release.", do="Put a copy there."
        )
    if missing := next((name for name in names if not (folder / name).is_file()), None):
        raise BadInput(f"{folder} lacks {missing}.", do="Run the `filbert compress --batch` that made it again.")
    return Upload(folder, name.where, hashes, {each: (folder / each).stat().st_size for each in names})


def publish_job(upload: Upload, *, private: bool) -> Job[str]:
    """Give it to the hub; what of it is there already does not go up again. Gives its address. Raises BadInput for a
    file that has changed since it was made, and for a token that is missing or may not write; OfflineRefused,
    DownloadFailed."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # in no __all__

    from filbert.models.sources.hub_api import authorization, endpoint

    if configured(Settings).offline:
        raise OfflineRefused(f"{upload.repo} cannot be reached.", why=FORBIDDEN, do="Leave --offline out.")
    if not authorization():
        raise BadInput("The hub does not know who you are.", why="There is no token.", do=LOGIN)
    for name, sha256 in upload.hashes.items():
        yield Progress(f"sha256 of {name}")
        if sha256_of(upload.folder / name) != sha256:
            raise BadInput(f"{name} has changed since it was made.", do="Make the release again.")
    yield Progress("upload")
    disable_progress_bars()
    api = HfApi(endpoint=endpoint(), library_name="filbert")
    with _hub_errors(upload.repo):
        api.create_repo(upload.repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=upload.repo,
            folder_path=upload.folder,
            allow_patterns=list(upload.sizes),
            commit_message="Upload a release of Filbert",
        )
    return f"{endpoint()}/{upload.repo}"


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """The client's errors in our words."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    from filbert.models.sources.hub_api import AnyHTTPError, unreachable

    try:
        yield
    except OfflineModeIsEnabled as exc:
        raise OfflineRefused(
            f"{repo} cannot be reached.", why="HF_HUB_OFFLINE forbids the hub.", do="Unset it."
        ) from exc
    except HFValidationError as exc:
        raise BadInput(f"{repo!r} is no repository's name.", do="It looks like owner/repo.") from exc
    except HfHubHTTPError as exc:
        status = exc.response.status_code
        if status in (401, 403):
            raise BadInput(f"The token may not write to {repo}.", why=f"The hub answered {status}.", do=LOGIN) from exc
        raise DownloadFailed(
            f"{repo} was not uploaded.", why=f"The hub answered {status}.", do="Run it again to go on where it stopped."
        ) from exc
    except AnyHTTPError as exc:
        raise unreachable(exc) from exc
    except RuntimeError as exc:  # one file of several did not go up
        why = f"{str(exc).splitlines()[0].rstrip('.')}."
        raise DownloadFailed(
            f"{repo} was not uploaded.", why=why, do="Run it again to go on where it stopped."
        ) from exc
