"""`filbert publish`: a release to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filbert.cli.console import agreed, has_person, line_width, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.core.errors import BadInput, Cancelled
from filbert.core.files import size
from filbert.core.settings import Settings


@with_options()
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `filbert compress --batch` wrote.")],
    to: Annotated[str, typer.Argument(metavar="hf:OWNER/REPO", help="It is made where there is none.")],
    settings: Settings,
    private: Annotated[bool, typer.Option("--private", help="Make a repository that nobody else sees.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Upload without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be uploaded; nothing is contacted.")
    ] = False,
) -> None:
    """Upload a release to the hub. Tells what will go up, and asks first.

    The token is that of the hub's own client: HF_TOKEN, or what `hf auth login` kept.
    """
    from filbert.compress.publish import publish_job, upload_of
    from filbert.core.jobs import run
    from filbert.report.table import table

    upload = upload_of(folder, to)
    say(table(("file", "size"), [[name, size(of)] for name, of in upload.sizes.items()], line_width()))
    say(f"{size(sum(upload.sizes.values()))} to {to}{', private' if private else ''}")
    if dry_run:
        return
    if not yes:
        if not has_person():
            raise BadInput("Nothing was uploaded.", why="Nobody could be asked.", do="Add --yes.")
        if not agreed("Upload it?", default=False):
            raise Cancelled("Nothing was uploaded.")
    with progress(settings) as watch:
        about = {"folder": str(folder), "to": to}
        say(run("publish", about, publish_job(upload, private=private), watch))
