"""`filbert perplexity`: how well a model predicts a text, or the answers to prompts."""

from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, NO_WORKER, opened
from filbert.cli.measuring_flags import WINDOW, WINDOW_TOKENS
from filbert.core.errors import BadInput
from filbert.core.files import read_text_file
from filbert.core.settings import Settings
from filbert.engine.load_options import OF_NUMBERS, LoadOptions

if TYPE_CHECKING:
    from filbert.evaluate.pairs import AnswerPerplexity, Shown


@with_options(LoadOptions, without=NO_WORKER)
def perplexity(
    load: LoadOptions,
    settings: Settings,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [OTHER]",
            help="A model; with --pairs two are compared.",
            show_default=False,
            autocompletion=installed_names,
        ),
    ] = None,
    model: MODEL = "",
    text: Annotated[Path | None, typer.Option("--text", help="A UTF-8 text file.", show_default=False)] = None,
    window: WINDOW = WINDOW_TOKENS,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="JSON lines of prompt and response: each response is scored.", show_default=False),
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Prompts of --pairs as in a chat, not raw.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the distribution of --pairs into a .png or .svg.", show_default=False),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The answers of --pairs as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
) -> None:
    """How well a model predicts a text or answers. Perplexity by llama.cpp's convention: lower is better."""
    names = [*([model] if model else []), *(models or [])]
    if (text is None) == (pairs is None):
        raise BadInput("One file is needed to measure on.", do="Name a text with --text, or pairs with --pairs.")
    if len(names) > (1 if text else 2):
        raise BadInput(f"{len(names)} models are too many.", do="Name one for a text, one or two for pairs.")
    if (as_csv or chat_template or plot) and not pairs:
        raise BadInput("--csv, --plot and --chat-template go with --pairs.", do="Leave them out for a text.")
    if as_csv and as_json:
        raise BadInput("The answer is CSV or JSON.", do="Leave one of --csv and --json out.")
    if text:
        _of_text(names[0] if names else "", load, settings, text, window, as_json=as_json)
        return
    assert pairs is not None
    from filbert.models import results

    if plot:
        from filbert.report.chart import need_chart

        need_chart(plot)  # before it is measured
    found = _of_pairs(names or [""], load, settings, pairs, "chat" if chat_template else "raw")
    if plot:
        _draw(found, plot)
    if as_csv:
        say(_csv(found), end="")
    else:
        _tell(found, as_json=as_json)
    for each in found:
        results.keep(each.to_result(pairs.name))


def _of_text(name: str, load: LoadOptions, settings: Settings, text: Path, window: int, *, as_json: bool) -> None:
    from filbert.models import results

    words = read_text_file(text, str(text))
    with opened(name, load, settings) as engine, progress(settings) as watch:
        from filbert.core.jobs import run
        from filbert.engine.score_and_perplexity import perplexity_job

        about = {"model": engine.name, "text": str(text), "window": window}
        found = run("perplexity", about, perplexity_job(engine.scorer, words, window, str(text)), watch)
    say(json.dumps(asdict(found), indent=1) if as_json else str(found))
    results.keep(found.to_result(text.name))


def _of_pairs(
    names: list[str], load: LoadOptions, settings: Settings, file: Path, shown: Shown
) -> list[AnswerPerplexity]:
    """Of each model, one after the other, so that one is in memory."""
    from filbert.core.jobs import run
    from filbert.core.pairs import read_pairs
    from filbert.evaluate.pairs import pairs_job

    read = read_pairs(read_text_file(file, str(file)), str(file))
    found = []
    for name in names:
        with opened(name, load, settings) as engine, progress(settings) as watch:
            told = ["--chat-template"] if shown == "chat" else []
            asked = [engine.name, "--pairs", str(file), *told, *engine.options.flags(OF_NUMBERS)]
            command = shlex.join(["filbert", "perplexity", *asked])
            about = {"model": engine.name, "pairs": str(file), "shown": shown}
            found.append(run("perplexity", about, pairs_job(engine, read, shown, command), watch))
    return found


def _tell(found: list[AnswerPerplexity], *, as_json: bool) -> None:
    from filbert.evaluate.pairs_compared import Comparison

    if len(found) == 1:
        say(json.dumps(found[0].to_json(), indent=1) if as_json else str(found[0]))
        return
    compared = Comparison(*found)
    told = [str(each) for each in (*found, compared)]
    say(json.dumps(compared.to_json(), indent=1) if as_json else "\n\n".join(told))


def _draw(found: list[AnswerPerplexity], plot: Path) -> None:
    from filbert.evaluate.pairs import MOST, clipped
    from filbert.evaluate.pairs_compared import Comparison
    from filbert.report.chart import distribution_chart

    if len(found) == 1:
        samples = {found[0].made_by.model: clipped(found[0].scored)}
    else:
        compared = Comparison(*found)
        samples = dict(zip(compared.names, compared.values, strict=True))
    n = len(next(iter(samples.values())))
    distribution_chart(samples, f"Perplexity of {n} answers", "perplexity of an answer", MOST).write(plot)


def _csv(found: list[AnswerPerplexity]) -> str:
    from filbert.evaluate.pairs import COLUMNS, row

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("model", *COLUMNS))
    writer.writerows((each.made_by.model, *row(pair)) for each in found for pair in each.pairs)
    return file.getvalue()
