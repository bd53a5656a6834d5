"""`filbert compress`: a smaller file of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.compress_asked import Asked, check, one_way
from filbert.cli.compressing_flags import FORCE, FULL_MODEL, file_of, need_free, read_calibration
from filbert.cli.console import line_width, note, progress, say
from filbert.cli.fidelity import on_tasks, tell_changes
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import consent, present
from filbert.cli.measuring_flags import DATA, LIMIT
from filbert.compress.compress_options import CompressOptions
from filbert.core.errors import BadInput
from filbert.core.files import size as told_size
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.compress.making import Making
    from filbert.compress.measure import Measure
    from filbert.compress.optimise import Table
    from filbert.compress.plan import Plan
    from filbert.compress.recipe import Rule
    from filbert.evaluate.evaluation import Evaluation


@with_options(LoadOptions, CompressOptions, without=frozenset(LoadOptions.model_fields) - {"threads"})
def compress(
    load: LoadOptions,
    compress: CompressOptions,
    settings: Settings,
    model: FULL_MODEL,
    to: Annotated[str, typer.Option("--to", help="A quantisation, such as Q4_K_M.", show_default=False)] = "",
    size: Annotated[
        str, typer.Option("--size", help="The best file of so many bytes, such as 90MB.", show_default=False)
    ] = "",
    bpw: Annotated[
        float, typer.Option("--bpw", min=0, help="The best of so many bits a weight.", show_default=False)
    ] = 0.0,
    device: Annotated[
        str, typer.Option("--device", help="The best that runs in so much memory: 8GB.", show_default=False)
    ] = "",
    quality: Annotated[
        str,
        typer.Option("--quality", metavar="kld=X", help="The smallest so near to MODEL, measured.", show_default=False),
    ] = "",
    speed: Annotated[
        float,
        typer.Option("--speed", min=0, help="The best that writes so many tokens a second here.", show_default=False),
    ] = 0.0,
    curve: Annotated[
        bool, typer.Option("--curve", help="Tell what each size would lose, beside llama.cpp's mixes.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Of --curve, a chart: .png or .svg.", show_default=False)
    ] = None,
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
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", help="Compress for this text; may be repeated.", show_default=False),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option("--pairs", help="The same, JSON lines of prompt and response.", show_default=False),
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
    tasks: Annotated[
        str,
        typer.Option("--tasks", help="Ask MODEL and the file these, as `filbert evaluate` does.", show_default=False),
    ] = "",
    limit: LIMIT = None,
    data: DATA = None,
    force: FORCE = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """Make a smaller file of a model.

    The types are those of llama.cpp, chosen by its own mixes (--to) or by a recipe of yours. The file says how it was
    made and what it lost, and so does a model card beside it.
    """
    from filbert.compress.card import card_of
    from filbert.compress.imatrix import read_imatrix
    from filbert.compress.plan import Source
    from filbert.compress.release import need_ours
    from filbert.core.files import bytes_of
    from filbert.evaluate.evaluation import Evaluation
    from filbert.models.gguf import check_split
    from filbert.report.chart import need_chart

    ways = {"--to": to, "--size": size, "--bpw": bpw, "--device": device, "--quality": quality, "--speed": speed}
    several = [each.strip() for each in batch.split(",") if each.strip()]
    if several and (any(ways.values()) or recipe or not out):
        raise BadInput("--batch writes a folder.", do="Name it with `--out FOLDER`, and say all sizes in --batch.")
    if several and out:
        need_ours(out)
    elif out and card_of(out) == out:
        raise BadInput(f"{out} is what its model card would be called.", do="Choose another with --out.")
    if plot:
        if not curve or dry_run:
            raise BadInput("--plot draws a curve.", do="Add --curve, and leave --dry-run out.")
        need_chart(plot)
    if (limit or data) and not tasks:
        raise BadInput("--limit and --data are of --tasks.", do="Add --tasks, or leave them out.")
    if tasks and (several or as_json or dry_run):
        raise BadInput(
            "--tasks asks one file, and tells in words.", do="Leave --batch, --json and --dry-run out, or --tasks."
        )
    wanted = several or ([] if curve else [one_way({**ways, "--recipe": recipe})])
    for each in wanted:
        check(each)  # what is none is told before anything is downloaded
    calibration = read_calibration(text or [], pairs or [])
    overrides = _overrides(tensor_type or [], output_type, embedding_type)
    split_bytes = bytes_of(split_size) if split_size else None
    stored = present(model, settings, load.threads, consent(settings))
    if stored.adapters:
        raise BadInput(f"{model} has adapters.", why="They would not be in the file.", do="Name the model alone.")
    source = Source(stored, check_split(stored.parts))
    importance = read_imatrix(imatrix) if imatrix else None
    asked = Asked(
        *(wanted, source, load, settings, compress, recipe, importance, overrides, split_bytes, allow_requantize),
        *(calibration, measure, dry_run),
    )
    if evaluation := Evaluation(tasks, limit, data=data) if tasks else None:
        evaluation.loaded()
    run = Run(asked, evaluation, force=force, dry_run=dry_run, as_json=as_json)
    if curve:
        _tell_curve(asked.table, plot, as_json=as_json)
        return
    run.need_sense()
    with closing(asked):
        if several and out:
            _release({asked.name(each): asked.plan(each) for each in several}, out, run)
        else:
            target = out or file_of(stored.name, f"-{asked.name(wanted[0])}.gguf")
            if not dry_run and not split_bytes:
                need_free(target, force=force, sources=asked.sources)  # before anything is measured
            _one(asked.plan(wanted[0]), target, run)
    if compress.effort == "high":
        from filbert.compress.effort import forget_teacher

        forget_teacher(asked.full)


@dataclass(frozen=True)
class Run:
    """How it is done and told. tasks: that the source and the file are asked afterwards."""

    asked: Asked
    tasks: Evaluation | None
    force: bool
    dry_run: bool
    as_json: bool

    def need_sense(self) -> None:
        """Raises BadInput for what cannot be had of --effort and --sensitivity, before anything is measured."""
        from filbert.compress.extra import TO_TRAIN, need_extra

        options = self.asked.options
        if options.sensitivity == "gradient" and any(map(check, self.asked.wanted)):
            need_extra("A sensitivity by gradients", TO_TRAIN)
        if options.effort in ("auto", "none"):
            return
        if self.asked.measures is False or self.asked.split_bytes:
            raise BadInput(
                "What --effort makes is made as a whole, and kept only if it is measured to be better.",
                do="Leave --no-measure and --split-size out, or --effort.",
            )
        if not self.asked.can_compare:
            raise BadInput(
                f"There is no memory to compare {self.asked.source.stored.name} with what --effort makes.",
                why="Both are loaded at once, or it writes no text.",
                do="Close other programs, or add `--effort none`.",
            )
        if options.effort == "high":
            need_extra("--effort high", TO_TRAIN)

    def measure(self, made: Plan) -> Measure | None:
        from filbert.compress.measure import can_measure, measure_job

        if self.asked.measures is None and not can_measure(made.source, made.size_bytes):
            name = made.source.original.name
            note(f"Not measured: {name} writes no text, or there is no memory for both.", self.settings)
            return None
        if self.asked.measures is False:
            return None
        return self._better(partial(measure_job, made, load=self.load))

    def _better(self, measure: Measure) -> Measure:
        """With what effort was asked for."""
        from filbert.compress.effort import STEPS, Training, better

        if self.asked.options.effort != "high":
            return measure
        training = Training(self.asked.full, self.asked.texts, STEPS)
        note(f"Training takes {STEPS} steps: about {training.minutes:.0f} minutes if nothing else runs.", self.settings)
        return better(measure, training)

    @property
    def load(self) -> LoadOptions:
        return self.asked.load

    @property
    def settings(self) -> Settings:
        return self.asked.settings


def _one(made: Plan, target: Path, how: Run) -> None:
    from filbert.compress.card import card_of, write_card
    from filbert.compress.making import making_of
    from filbert.compress.quantise import quantise_job
    from filbert.core.jobs import run
    from filbert.models.gguf import read_header
    from filbert.models.parts import projector_of
    from filbert.models.store import in_place

    if not how.as_json:
        say(told(made))
    files = [target.with_name(name) for name in made.names(target.name)]
    eyes = [projector_of(files[0])] if made.source.original.projector else []
    making = None
    if not how.dry_run:
        for file in (*files, card_of(files[0]), *eyes):
            need_free(file, force=how.force, sources=how.asked.sources)
        with progress(how.settings) as watch:
            about = {"model": made.source.original.name, "recipe": made.recipe.name, "out": str(target)}
            run(
                "compress",
                about,
                quantise_job(made, target, threads=how.load.threads, measure=how.measure(made)),
                watch,
            )
        card = write_card(files[0])
        note(f"{', '.join(map(str, files + eyes))}: {told_size(made.size_bytes)}, told of in {card.name}", how.settings)
        making = making_of(read_header(files[0]))
        if not how.as_json:
            say(lost(making))
            if how.asked.options.effort == "high" and making and making.measured:
                say(trained(making.measured.trained_steps))
        if how.tasks and not how.as_json:
            tell_changes(on_tasks([in_place(files[0]), made.source.original], how.load, how.settings, how.tasks))
    if how.as_json:
        say(json.dumps(_json(made, files, making), indent=1))


def _release(plans: Mapping[str, Plan], folder: Path, how: Run) -> None:
    """plans: by what the files are called after."""
    from filbert.compress.release import HEAD, cells, release_job
    from filbert.core.jobs import run
    from filbert.report.table import table

    if how.dry_run:
        each = [[wanted, told_size(made.size_bytes), f"{made.bits_a_weight:.2f}"] for wanted, made in plans.items()]
        say(table(("file", "size", "bits a weight"), each, line_width()))
        return
    named = {file_of(made.source.original.name, f"-{wanted}.gguf").name: made for wanted, made in plans.items()}
    measures = {name: measure for name, made in named.items() if (measure := how.measure(made))}
    with progress(how.settings) as watch:
        about = {"batch": list(plans), "out": str(folder)}
        made = run("compress", about, release_job(named, folder, measures, how.load.threads), watch)
    if how.as_json:
        say(json.dumps([each.to_json() for each in made], indent=1))
    else:
        say(table(HEAD, cells(made), line_width()))
        note(f"{folder}: `filbert publish {folder} hf:OWNER/REPO` uploads it.", how.settings)


def trained(steps: int) -> str:
    if steps:
        return f"Trained {steps} steps: no kind of text is further from the source than it was."
    return "Training made some kind of text worse, so the file is as it was before."


def _tell_curve(found: Table, plot: Path | None, *, as_json: bool) -> None:
    from filbert.compress.optimise import HEAD, NOTE
    from filbert.report.table import table

    points = sorted([*found.curve(), *found.stock()], key=lambda point: point.size_bytes)
    if as_json:
        say(json.dumps({"maker": found.sensitivity.maker, "points": [asdict(point) for point in points]}, indent=1))
    else:
        say(table(HEAD, [point.cells() for point in points], line_width()))
        say(NOTE)
    if plot:
        from filbert.compress.optimise import draw

        draw(found, plot)


def lost(making: Making | None) -> str:
    """What a file says of what compression cost."""
    from filbert.compress.card import HEAD, on, rows
    from filbert.report.table import table

    if not making or not making.measured:
        return "Nobody has measured what it lost."
    return f"{table(HEAD, rows(making.measured), line_width())}\n{on(making.measured)}"


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

    lines = [
        table(HEAD, rows(made), line_width()),
        f"{told_size(made.size_bytes)}, {made.bits_a_weight:.2f} bits a weight",
    ]
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
