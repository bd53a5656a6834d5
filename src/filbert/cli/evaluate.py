"""`filbert evaluate`: models on tasks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import line_width, progress, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import NO_WORKER, opened
from filbert.cli.measuring_flags import DATA, LIMIT
from filbert.core.addresses import is_loopback
from filbert.core.errors import BadInput, OfflineRefused
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.core.jobs import Job
    from filbert.evaluate.evaluation import Evaluation
    from filbert.evaluate.paper import Row
    from filbert.evaluate.result import TaskResult
    from filbert.report.measurement import Provenance

SHOW = "show"
SEED = 1234


@with_options(LoadOptions, without=NO_WORKER)
def evaluate(
    load: LoadOptions,
    settings: Settings,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]…",
            help="Models, each measured on every task. `show RUN` shows the items of a run instead.",
            show_default=False,
            autocompletion=installed_names,
        ),
    ] = None,
    tasks: Annotated[
        str,
        typer.Option("--tasks", help="`paper` for its seven, names with commas between, or paths of task files."),
    ] = "paper",
    limit: LIMIT = None,
    fewshot: Annotated[
        int | None,
        typer.Option("--fewshot", min=0, help="Examples before each item; the task's own number.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the examples.")] = SEED,
    chat_template: Annotated[bool, typer.Option("--chat-template", help="Ask as in a chat, not raw.")] = False,
    data: DATA = None,
    server: Annotated[
        str,
        typer.Option(
            "--server",
            metavar="URL",
            help="Models of another server that tells log-probabilities of prompts. Its key: FILBERT_SERVER_KEY.",
            show_default=False,
        ),
    ] = "",
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="`paper`: among the models of its table, as `--tasks paper` is; or `none`.",
            show_default=False,
        ),
    ] = "",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw it: a .png, .svg or .html file; with --against.", show_default=False),
    ] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="With `show`: only what was answered wrongly.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object, as lm-eval writes results.")] = False,
) -> None:
    """How many questions of a task a model answers. By lm-evaluation-harness's definitions, offline after the first."""
    if models and models[0] == SHOW:
        if len(models) != 2:
            raise BadInput("`show` takes one run.", do="Name it as `filbert evaluate` printed it.")
        _show(models[1], wrong=wrong, as_json=as_json)
        return
    if wrong:
        raise BadInput("--wrong goes with `show RUN`.", do="Name a run as `filbert evaluate` printed it.")
    against = against or ("paper" if tasks == "paper" else "none")
    if against not in ("none", "paper"):
        raise BadInput(f"There is no table {against}.", do="Take `--against paper` or none.")
    if plot:
        from filbert.report.chart import need_chart

        if against == "none":
            raise BadInput("--plot draws the table of --against.", do="Add `--against paper`.")
        if not _is_page(plot):
            need_chart(plot)
    from filbert.core.jobs import run
    from filbert.evaluate.evaluation import Evaluation

    asked = Evaluation(tasks, limit, fewshot, seed, chat_template, data)
    found: dict[str, list[TaskResult]] = {}
    open_one = _elsewhere(server, asked, load, settings, models) if server else partial(_here, asked, load, settings)
    for wanted in models or [""]:
        with open_one(wanted) as (name, job), progress(settings) as watch:
            about = {"model": name, "tasks": tasks, "limit": limit}
            found[name] = run("evaluate", about, job, watch)
    _tell(found, against=against, plot=plot, as_markdown=as_markdown, as_json=as_json)


@contextmanager
def _here(
    asked: Evaluation, load: LoadOptions, settings: Settings, name: str
) -> Iterator[tuple[str, Job[list[TaskResult]]]]:
    with opened(name, load, settings) as model:
        yield model.name, asked.job(model)


def _elsewhere(
    server: str, asked: Evaluation, load: LoadOptions, settings: Settings, models: Sequence[str] | None
) -> Callable[[str], AbstractContextManager[tuple[str, Job[list[TaskResult]]]]]:
    """Raises BadInput for what only goes with a model here, OfflineRefused."""
    from filbert.evaluate.served import served
    from filbert.models.remote import FORBIDDEN

    if not models:
        raise BadInput("Which of the server's models?", do="Name it as the server does.")
    if asked.chat_template or load.adapters:
        raise BadInput("--chat-template and --adapters go with a model here.", do="Leave them out with --server.")
    if settings.offline and not is_loopback(urlsplit(server).hostname or ""):
        raise OfflineRefused("The server is not on this machine.", why=FORBIDDEN, do="Leave --offline out.")
    key = os.environ.pop("FILBERT_SERVER_KEY", "").strip()  # children would inherit it

    @contextmanager
    def opened(name: str) -> Iterator[tuple[str, Job[list[TaskResult]]]]:
        words = ["filbert", "evaluate", name, "--server", server, *load.flags({"context"})]
        with served(server, name, key, load.context) as scorer:
            yield name, asked.scored(scorer, words)

    return opened


def _tell(
    found: Mapping[str, Sequence[TaskResult]], *, against: str, plot: Path | None, as_markdown: bool, as_json: bool
) -> None:
    from filbert.evaluate import paper
    from filbert.report.table import markdown, table

    if as_json:
        from filbert.evaluate.harness_json import harness_json

        say(json.dumps(harness_json(found), indent=1))
        return
    head = ("model", "task", "metric", "value", "±", "n", "run")
    rows = [row for model, results in found.items() for row in _rows(model, results)]
    say(markdown(head, rows) if as_markdown else table(head, rows, line_width(), ("run", "model")))
    if against == "paper":
        placed = paper.among([paper.measured(model, {one.task: one for one in each}) for model, each in found.items()])
        cells = [row.cells() for row in placed]
        say()
        say(markdown(paper.HEAD, cells) if as_markdown else table(paper.HEAD, cells, line_width(), ("model",)))
        say(paper.NOTE)
        if plot:
            _draw(placed, [each[0].metrics[0].made_by for each in found.values()], plot)
    for results in found.values():
        for result in results:
            if note := _note(result):
                say(note)
        say(f"\n{results[0].metrics[0].made_by}")


def _rows(model: str, results: Sequence[TaskResult]) -> Iterator[list[str]]:
    for result in results:
        for metric in result.metrics:
            yield [
                model,
                result.task,
                metric.name,
                f"{metric.value:.4f}",
                f"{metric.standard_error:.4f}",
                str(metric.n),
                result.run,
            ]


def _note(result: TaskResult) -> str:
    """What a reader of the figures has to know."""
    metric = result.metrics[0]
    told = []
    if metric.n_invalid:
        told.append(f"{metric.n_invalid} items gave no number and count as wrong")
    if result.n_cut:
        told.append(f"{result.n_cut} prompts were longer than the context and lost their beginnings")
    return f"{result.task}: {'; '.join(told)}." if told else ""


def _draw(rows: Sequence[Row], made_by: Sequence[Provenance], file: Path) -> None:
    from filbert.evaluate.paper import HEAD, page

    if _is_page(file):
        from filbert.core.files import write_whole
        from filbert.report.page import html

        with write_whole(file) as written:
            written.write(html(page(rows, made_by)).encode())
        return
    from filbert.report.chart import bars

    columns = HEAD[1:-1]
    values = [[*row.accuracies, row.average] for row in rows]
    errors = [[*row.errors, None] for row in rows]
    ours = [row.model for row in rows if row.origin == "measured"]
    bars([row.model for row in rows], columns, values, errors, ours).write(file)


def _is_page(file: Path) -> bool:
    return file.suffix.lower() == ".html"


def _show(run: str, *, wrong: bool, as_json: bool) -> None:
    from filbert.evaluate.kept_runs import items_of

    rows = [row for row in items_of(run) if not (wrong and row["right"])]
    if as_json:
        say(json.dumps(rows, indent=1))
        return
    for row in rows:
        say(f"{row['index']}: {row['question']}")
        if row["problem"]:
            say(f"  {row['problem']}")
        for at, (choice, value) in enumerate(zip(row["choices"], row["loglikelihoods"], strict=False)):
            marks = ("right" if at == row["gold"] else "") + (" chosen" if at == row["chosen"] else "")
            told = "NaN" if value is None else f"{value:.2f}"
            say(f"  {told:>9}  {choice}" + (f"  ({marks.strip()})" if marks else ""))
    say(f"{len(rows)} items")
