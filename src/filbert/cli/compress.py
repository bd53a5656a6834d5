"""`filbert compress`: a smaller file of a model."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import partial
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
    from filbert.compress.measure import Measure
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
    split_size: Annotated[
        str,
        typer.Option("--split-size", metavar="SIZE", help="Files of at most so much each: 2GB.", show_default=False),
    ] = "",
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Measure what it lost, beside MODEL. Left out: where both fit into memory.",
            show_default=False,
        ),
    ] = None,
    force: FORCE = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """Make a smaller file of a model.

    The types are those of llama.cpp, chosen by its own mixes (--to) or by a recipe of yours. The file says how it was
    made and what it lost, and so does a model card beside it.
    """
    from filbert.compress.card import card_of, write_card
    from filbert.compress.imatrix import read_imatrix
    from filbert.compress.plan import Source, plan
    from filbert.compress.quantise import quantise_job
    from filbert.core.files import bytes_of
    from filbert.core.jobs import run
    from filbert.models.gguf import check_split

    overrides = _overrides(tensor_type or [], output_type, embedding_type)
    chosen = _recipe(to, recipe).before(*overrides)
    split_bytes = bytes_of(split_size) if split_size else None
    stored = present(model, settings, load.threads, consent(settings))
    source = Source(stored, check_split(stored.parts))
    matrix = read_imatrix(imatrix) if imatrix else None

    again = _again(stored.name, to, recipe, imatrix, overrides, split_size, allow_requantize=allow_requantize)
    made = plan(source, chosen, matrix, requantise=allow_requantize, command=again, split_bytes=split_bytes)
    target = out or file_of(stored.name, f"-{made.recipe.name}.gguf")
    if not as_json:
        say(told(made))
    files = [target.with_name(name) for name in made.names(target.name)]
    if not dry_run:
        for file in (files[0], card_of(files[0])):
            need_free(file, force=force)
        with progress(settings) as watch:
            about = {"model": stored.name, "recipe": made.recipe.name, "out": str(target)}
            job = quantise_job(made, target, threads=load.threads, measure=_measure(made, load, measure, settings))
            run("compress", about, job, watch)
        note(f"{', '.join(map(str, files))}: {size(made.size_bytes)}, told of in {write_card(files[0])}", settings)
        if not as_json:
            say(lost(files[0]))
    if as_json:
        say(json.dumps(_json(made, files, is_there=not dry_run), indent=1))


def _again(
    name: str,
    to: str,
    recipe: Path | None,
    imatrix: Path | None,
    overrides: Sequence[Rule],
    split_size: str,
    *,
    allow_requantize: bool,
) -> str:
    """What makes the file again, for those who read of it: of files and models their names, not where they lie."""
    words = ["filbert", "compress", Path(name).name]
    words += ["--recipe", recipe.name] if recipe else ["--to", to]
    words += ["--imatrix", imatrix.name] if imatrix else []
    for each in overrides:
        words += ["--tensor-type", f"{each.tensor}={each.type}"]
    words += ["--split-size", split_size] if split_size else []
    words += ["--allow-requantize"] if allow_requantize else []
    return shlex.join(words)


def _measure(made: Plan, load: LoadOptions, wanted: bool | None, settings: Settings) -> Measure | None:
    """wanted: None for what this machine can do."""
    from filbert.compress.measure import can_measure, measure_job

    if wanted is None and not can_measure(made):
        note(f"Not measured: {made.source.stored.name} writes no text, or there is no memory for both.", settings)
        return None
    return partial(measure_job, made, load=load) if wanted is not False else None


def lost(file: Path) -> str:
    """What the file says of what compression cost."""
    from filbert.compress.card import HEAD, on, rows
    from filbert.compress.making import making_of
    from filbert.models.gguf import read_header
    from filbert.report.table import table

    making = making_of(read_header(file))
    if not making or not making.measured:
        return "Nobody has measured what it lost."
    return f"{table(HEAD, rows(making.measured), line_width())}\n{on(making.measured)}"


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


def _json(made: Plan, files: Sequence[Path], *, is_there: bool) -> dict[str, object]:
    from filbert.compress.making import making_of
    from filbert.models.gguf import read_header

    making = making_of(read_header(files[0])) if is_there else None
    tensors = [{"name": each.tensor.name, "type": each.type, "wanted": each.wanted} for each in made.tensors]
    return {
        "file": str(files[0]),
        "files": list(map(str, files)),
        "recipe": made.recipe.name,
        "bytes": made.size_bytes,
        "bits_a_weight": made.bits_a_weight,
        "uncovered": [each.tensor.name for each in made.uncovered] if made.importance else [],
        "tensors": tensors,
        "making": making and making.to_json(),
    }
