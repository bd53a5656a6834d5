"""`filbert import`: use the model files that other programs have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.console import agreed, has_person, note, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.core.files import size
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.models.adopt.importing import Candidate

STATES = {"new": "to import", "changed": "has changed", "here": "here already"}


@with_options()
def import_models(
    settings: Settings,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Model files, or folders of them. Left out: the folders of the programs that are known."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What to call the one model at PATHS.", show_default=False)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is, and import nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array, and no question.")] = False,
) -> None:
    """Use the model files that other programs have. Looks where GPT4All, LM Studio, Ollama, llama.cpp, Jan and Hugging
    Face's programs keep them. Nothing is copied or changed: a name of ours stands for their file, and `filbert rm`
    takes away the name alone."""
    from filbert.core.errors import BadInput
    from filbert.core.jobs import run
    from filbert.models.adopt import importing

    if name and not paths:
        raise BadInput("--name needs the path of a model.", do="`filbert import PATH --name NAME`.")
    with progress(settings) as watch:
        candidates = run(
            "import", {"paths": [str(path) for path in paths or ()]}, importing.search(paths or (), name), watch
        )
    to_take = [each for each in candidates if each.manifest]
    show_candidates(candidates, as_json, settings)
    if dry_run or not to_take or not (yes or as_json or not has_person() or agreed(f"Import {_models(len(to_take))}?")):
        return
    taken = importing.take(to_take)
    total = sum(each.size_bytes for each in taken)
    note(f"{_models(len(taken))} imported, {size(total)} that stay where they are.", settings)


def show_candidates(candidates: list[Candidate], as_json: bool, settings: Settings) -> None:
    from filbert.report.table import table

    if as_json:
        say(json.dumps([_facts(each) for each in candidates], indent=1))
        return
    models = [each for each in candidates if each.state != "refused"]
    if models:
        say(table(("name", "program", "size", "kind", ""), [_row(each) for each in models]))
    for each in candidates:
        if each.state == "refused":
            note(f"left out: {each.what} ({each.program}): {each.why}", settings)
        elif each.why:
            note(f"{each.name}: {each.why}", settings)
    if not candidates:
        note("No models of other programs are here. `filbert import PATH` takes a file or a folder.", settings)


def _row(each: Candidate) -> tuple[str, ...]:
    return each.name, each.program, size(each.size_bytes), each.kind, STATES[each.state]


def _facts(each: Candidate) -> dict[str, str | int | None]:
    return {
        "name": each.name or None,
        "program": each.program,
        "what": each.what,
        "bytes": each.size_bytes,
        "kind": each.kind,
        "state": each.state,
        "why": each.why,
    }


def _models(number: int) -> str:
    return f"{number} model{'' if number == 1 else 's'}"
