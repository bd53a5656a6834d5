"""`filbert convert`: a model of Hugging Face's as a GGUF file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.compressing_flags import FORCE, need_free
from filbert.cli.console import note, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.core.files import size
from filbert.core.settings import Settings
from filbert.models.download_options import DownloadOptions

if TYPE_CHECKING:
    from filbert.compress.convert import Converted


class Kind(StrEnum):
    """compress/convert.py, Type."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"


@with_options(DownloadOptions)
def convert(
    download: DownloadOptions,
    settings: Settings,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder with config.json and *.safetensors, or owner/name on the hub."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; left out: NAME-TYPE.gguf here.", show_default=False)
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option("--type", case_sensitive=False, help="Of the file; left out: as the weights are."),
    ] = None,
    adapter: Annotated[
        str,
        typer.Option(
            "--adapter",
            metavar="ADAPTER",
            help="A LoRA adapter of the model, a folder or owner/name: convert that.",
            show_default=False,
        ),
    ] = "",
    mmproj: Annotated[bool, typer.Option("--mmproj", help="What it sees with too, as mmproj-FILE.")] = False,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Compare the file with its source; left out: below 2 billion weights.",
            show_default=False,
        ),
    ] = None,
    force: FORCE = False,
) -> None:
    """Make a GGUF file of a model from Hugging Face.

    By llama.cpp's own converter, of the version that the engine is. No code that comes with a model is run.
    """
    from filbert.compress.convert import Asked, convert_job
    from filbert.core.jobs import run
    from filbert.models.parts import projector_of

    name = Path(adapter or model.removeprefix("hf:")).expanduser().resolve().name
    target = out or Path(f"{name}-{kind}.gguf" if kind else f"{name}.gguf")
    for path in (target, projector_of(target)) if mmproj else (target,):
        need_free(path, force=force)
    asked = Asked(model, kind.value if kind else None, adapter, mmproj, verify)
    with progress(settings) as watch:
        about = {"model": model, "adapter": adapter, "out": str(target)}
        made = run("convert", about, convert_job(asked, target, download), watch)
    say(str(made.path))
    if made.projector:
        say(str(made.projector))
    note(told(made), settings)


def told(made: Converted) -> str:
    header = made.header
    lines = [f"{size(header.size_bytes)}, {header.quantisation}, {header.licence or 'licence unknown'}"]
    if made.agreement:
        lines.append(made.agreement.told)
    elif made.why_not:
        lines.append(f"Not compared with its source: {made.why_not}")
    return "\n".join(lines)
