"""`filbert bench`: how fast models are on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import line_width, progress, say
from filbert.cli.default_model import default_model
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import consent, present
from filbert.core.errors import BadInput
from filbert.core.settings import Settings
from filbert.engine.load_options import OF_WHAT_IS_SAID, LoadOptions

if TYPE_CHECKING:
    from filbert.evaluate.bench_result import Bench


@with_options(LoadOptions, without=OF_WHAT_IS_SAID)
def bench(
    load: LoadOptions,
    settings: Settings,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]…", help="Models, one after the other.", show_default=False, autocompletion=installed_names
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", metavar="COUNTS", help="Tokens to read; several with commas, 0 for none.")
    ] = "512",
    generate: Annotated[
        str, typer.Option("--generate", "-n", metavar="COUNTS", help="Tokens to write, likewise.")
    ] = "128",
    depth: Annotated[
        str,
        typer.Option(
            "--depth",
            "-d",
            metavar="COUNTS",
            help="Tokens before them, which are not counted. Left out: 0, and 2048 where the context holds it.",
            show_default=False,
        ),
    ] = "",
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, max=10_000, help="How often each is measured.")] = 5,
    busy: Annotated[
        int,
        typer.Option(
            "--busy",
            min=0,
            max=1024,
            help="Measure also beside so many processes that keep cores busy.",
        ),
    ] = 0,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A list of JSON objects, named as by llama-bench.")] = False,
) -> None:
    """How fast models are on this machine.

    Tokens read and written a second, the wait for the first token, memory; by the tests of llama-bench.
    """
    from filbert.core.jobs import run
    from filbert.evaluate.bench import Plan, bench_job
    from filbert.models import results

    plan = Plan(
        _counts("--prompt", prompt),
        _counts("--generate", generate),
        _counts("--depth", depth) if depth else None,
        rounds,
        busy,
    )
    found = []
    for name in models or [default_model(settings)]:
        stored = present(name, settings, load.threads, consent(settings))
        with progress(settings) as watch:
            about = {"model": stored.name, "rounds": rounds, "busy": busy}
            found.append(run("bench", about, bench_job(stored, load, plan), watch))
        results.keep(found[-1].to_result())
    if as_json:
        say(json.dumps([row for each in found for row in each.to_json()], indent=1))
    else:
        _tell(found, as_markdown=as_markdown)


def _tell(found: Sequence[Bench], *, as_markdown: bool) -> None:
    from filbert.core.machine import cores
    from filbert.evaluate.bench_result import HEAD
    from filbert.report.table import markdown, table

    rows = [cells for each in found for cells in each.cells()]
    say(markdown(HEAD, rows) if as_markdown else table(HEAD, rows, line_width(), ("model",)))
    for each in found:
        say()
        for told in each.notes(cores()):
            say(told)
        say(str(each.made_by))


def _counts(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError as exc:
        raise BadInput(f"{flag} cannot be {text!r}.", do=f"Write {flag} 512,1024.") from exc
