"""`filbert compress`: a smaller file of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.compressing_flags import FORCE, FULL_MODEL, file_of, need_free
from filbert.cli.console import line_width, note, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import consent, present
from filbert.core.errors import BadInput
from filbert.core.files import size
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.compress.plan import Plan
    from filbert.compress.recipe import Recipe, Rule


@with_options(LoadOptions, without=frozenset(LoadOptions.model_fields) - {"threads"})
def compress(
    load: LoadOptions,
    settings: Settings,
    model: FULL_MODEL,
    to: Annotated[str, typer.Option("--to", help="A quantisation, such as Q4_K_M.", show_default=False)] = "",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A TOML file of types by tensor.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; left out: MODEL-TYPE.gguf here.", show_default=False)
    ] = None,
    imatrix: Annotated[
        Path | None, typer.Option("--imatrix", help="What `filbert imatrix` wrote.", show_default=False)
    ] = None,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option("--tensor-type", metavar="PATTERN=TYPE", help="Of tensors so named.", show_default=False),
    ] = None,
    output_type: Annotated[str, typer.Option("--output-type", help="Of the output.", show_default=False)] = "",
    embedding_type: Annotated[str, typer.Option("--embedding-type", help="Of the embedding.", show_default=False)] = "",
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Take a compressed model: its errors are added to ours.")
    ] = False,
    force: FORCE = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """Make a smaller file of a model.

    The types are those of llama.cpp, chosen by its own mixes (--to) or by a recipe of yours.
    """
    from filbert.compress.imatrix import read_imatrix
    from filbert.compress.plan import Source, plan
    from filbert.compress.quantise import quantise_job
    from filbert.core.jobs import run
    from filbert.models.gguf import check_split

    chosen = _recipe(to, recipe).before(*_overrides(tensor_type or [], output_type, embedding_type))
    stored = present(model, settings, load.threads, consent(settings))
    source = Source(stored, check_split(stored.parts))
    matrix = read_imatrix(imatrix) if imatrix else None
    made = plan(source, chosen, matrix, requantise=allow_requantize)
    target = out or file_of(stored.name, f"-{chosen.name}.gguf")
    if not as_json:
        say(told(made))
    if not dry_run:
        need_free(target, force=force)
        with progress(settings) as watch:
            about = {"model": stored.name, "recipe": chosen.name, "out": str(target)}
            run("compress", about, quantise_job(made, target, threads=load.threads), watch)
        note(f"{target}: {size(target.stat().st_size)}", settings)
    if as_json:
        say(json.dumps(_json(made, target), indent=1))


def _recipe(to: str, file: Path | None) -> Recipe:
    from filbert.compress.recipe import read_recipe, stock

    if bool(to) == bool(file):
        raise BadInput("It is not said how.", do="Add either `--to Q4_K_M` or `--recipe FILE`.")
    return read_recipe(file) if file else stock(to)


def _overrides(patterns: Sequence[str], output: str, embedding: str) -> list[Rule]:
    from filbert.compress.recipe import rule

    pairs = [pattern.rpartition("=")[::2] for pattern in patterns]
    pairs += [(r"^output\.weight$", output)] if output else []
    pairs += [(r"^(per_layer_)?token_embd\.weight$", embedding)] if embedding else []
    return [rule(pattern, kind) for pattern, kind in pairs]


def told(made: Plan) -> str:
    """What the file will be: its types by kind of tensor, its size."""
    from filbert.compress.plan import HEAD, rows
    from filbert.report.table import table

    lines = [table(HEAD, rows(made), line_width()), f"{size(made.size_bytes)}, {made.bits_a_weight:.2f} bits a weight"]
    if fallen := made.fallen_back:
        lines.append(
            f"{len(fallen)} of {len(made.tensors)} tensors have rows that are no whole number of blocks of the type "
            "chosen for them, and get the next that fits."
        )
    return "\n".join([*lines, *made.gaps])


def _json(made: Plan, target: Path) -> dict[str, object]:
    tensors = [{"name": each.tensor.name, "type": each.type, "wanted": each.wanted} for each in made.tensors]
    return {
        "file": str(target),
        "recipe": made.recipe.name,
        "bytes": made.size_bytes,
        "bits_a_weight": made.bits_a_weight,
        "uncovered": [each.tensor.name for each in made.uncovered] if made.importance else [],
        "tensors": tensors,
    }
