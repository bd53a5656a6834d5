"""`filbert compress`: a smaller file of a model."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    from filbert.compress.imatrix import ImportanceMatrix
    from filbert.compress.making import Making
    from filbert.compress.measure import Measure
    from filbert.compress.plan import Plan, Source
    from filbert.compress.recipe import Recipe, Rule


@with_options(LoadOptions, without=frozenset(LoadOptions.model_fields) - {"threads"})
def compress(
    load: LoadOptions,
    settings: Settings,
    model: FULL_MODEL,
    to: Annotated[str, typer.Option("--to", help="A quantisation, such as Q4_K_M.", show_default=False)] = "",
    batch: Annotated[
        str,
        typer.Option("--batch", metavar="TO,TO,…", help="Several, into the folder --out.", show_default=False),
    ] = "",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A TOML file of types by tensor.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file; left out: MODEL-TYPE.gguf here. Of --batch, the folder.", show_default=False
        ),
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
    from filbert.compress.imatrix import read_imatrix
    from filbert.compress.plan import Source
    from filbert.core.files import bytes_of
    from filbert.models.gguf import check_split

    wanted = [each for each in batch.split(",") if each]
    overrides = _overrides(tensor_type or [], output_type, embedding_type)
    for each in wanted or [to]:
        _recipe(each, recipe)  # what is none is told before anything is downloaded
    if wanted and (to or not out):
        raise BadInput("--batch writes a folder.", do="Name it with `--out FOLDER`, and leave --to out.")
    split_bytes = bytes_of(split_size) if split_size else None
    stored = present(model, settings, load.threads, consent(settings))
    source = Source(stored, check_split(stored.parts))
    asked = Asked(source, recipe, read_imatrix(imatrix) if imatrix else None, overrides, split_bytes, allow_requantize)
    run = Run(load, settings, measure, force=force, dry_run=dry_run, as_json=as_json)
    if wanted and out:
        _release({each: asked.plan(each) for each in wanted}, out, run)
    else:
        made = asked.plan(to)
        _one(made, out or file_of(stored.name, f"-{made.recipe.name}.gguf"), run)


@dataclass(frozen=True)
class Asked:
    """How a source is compressed, all but to what."""

    source: Source
    recipe: Path | None
    importance: ImportanceMatrix | None
    overrides: Sequence[Rule]
    split_bytes: int | None
    requantise: bool

    def plan(self, to: str) -> Plan:
        """to: a quantisation, or "" where there is a recipe."""
        from filbert.compress.plan import plan

        return plan(
            self.source,
            _recipe(to, self.recipe).before(*self.overrides),
            self.importance,
            requantise=self.requantise,
            command=self.again(to),
            split_bytes=self.split_bytes,
        )

    def again(self, to: str) -> str:
        """What makes the file again, for those who read of it: of files and models their names, not where they lie."""
        words = ["filbert", "compress", Path(self.source.stored.name).name]
        words += ["--recipe", self.recipe.name] if self.recipe else ["--to", to]
        words += ["--imatrix", self.importance.path.name] if self.importance else []
        for each in self.overrides:
            words += ["--tensor-type", f"{each.tensor}={each.type}"]
        words += ["--split-size", f"{self.split_bytes}B"] if self.split_bytes else []
        words += ["--allow-requantize"] if self.requantise else []
        return shlex.join(words)


@dataclass(frozen=True)
class Run:
    """How it is done and told. measures: None for where this machine can."""

    load: LoadOptions
    settings: Settings
    measures: bool | None
    force: bool
    dry_run: bool
    as_json: bool

    def measure(self, made: Plan) -> Measure | None:
        from filbert.compress.measure import can_measure, measure_job

        if self.measures is None and not can_measure(made):
            name = made.source.stored.name
            note(f"Not measured: {name} writes no text, or there is no memory for both.", self.settings)
            return None
        return None if self.measures is False else partial(measure_job, made, load=self.load)


def _one(made: Plan, target: Path, how: Run) -> None:
    from filbert.compress.card import card_of, write_card
    from filbert.compress.making import making_of
    from filbert.compress.quantise import quantise_job
    from filbert.core.jobs import run
    from filbert.models.gguf import read_header

    if not how.as_json:
        say(told(made))
    files = [target.with_name(name) for name in made.names(target.name)]
    making = None
    if not how.dry_run:
        for file in (files[0], card_of(files[0])):
            need_free(file, force=how.force)
        with progress(how.settings) as watch:
            about = {"model": made.source.stored.name, "recipe": made.recipe.name, "out": str(target)}
            run(
                "compress",
                about,
                quantise_job(made, target, threads=how.load.threads, measure=how.measure(made)),
                watch,
            )
        card = write_card(files[0])
        note(f"{', '.join(map(str, files))}: {size(made.size_bytes)}, told of in {card.name}", how.settings)
        making = making_of(read_header(files[0]))
        if not how.as_json:
            say(lost(making))
    if how.as_json:
        say(json.dumps(_json(made, files, making), indent=1))


def _release(plans: Mapping[str, Plan], folder: Path, how: Run) -> None:
    """plans: by what was asked for."""
    from filbert.compress.release import HEAD, cells, release_job
    from filbert.core.jobs import run
    from filbert.report.table import table

    if how.dry_run:
        each = [[wanted, size(made.size_bytes), f"{made.bits_a_weight:.2f}"] for wanted, made in plans.items()]
        say(table(("file", "size", "bits a weight"), each, line_width()))
        return
    named = {file_of(made.source.stored.name, f"-{wanted}.gguf").name: made for wanted, made in plans.items()}
    measures = {name: measure for name, made in named.items() if (measure := how.measure(made))}
    with progress(how.settings) as watch:
        about = {"batch": list(plans), "out": str(folder)}
        made = run("compress", about, release_job(named, folder, measures, how.load.threads), watch)
    if how.as_json:
        say(json.dumps([each.to_json() for each in made], indent=1))
    else:
        say(table(HEAD, cells(made), line_width()))
        note(f"{folder}: `filbert publish {folder} hf:OWNER/REPO` uploads it.", how.settings)


def lost(making: Making | None) -> str:
    """What a file says of what compression cost."""
    from filbert.compress.card import HEAD, on, rows
    from filbert.report.table import table

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


def _json(made: Plan, files: Sequence[Path], making: Making | None) -> dict[str, object]:
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
