"""`filbert show`: what a model is made of."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import note, patience, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.set import shown
from filbert.core.files import size
from filbert.core.settings import Settings
from filbert.report.page import printable


@with_options()
def show(
    name: Annotated[
        str, typer.Argument(help="A model's name, or the path of a GGUF file.", autocompletion=installed_names)
    ],
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False,
    template: Annotated[bool, typer.Option("--template", help="The whole chat template, and nothing else.")] = False,
) -> None:
    """What a model is made of, and what is kept with it.

    Read from its file's header, and from `filbert set`. A file of `filbert compress` tells what it was made from, how,
    and what it lost.
    """
    from filbert.cli.compress import lost
    from filbert.compress.card import made_of
    from filbert.compress.making import making_of
    from filbert.engine.thinking import thinking_of
    from filbert.models import results, store
    from filbert.models.gguf import check_split

    stored = store.resolve(name)
    headers = check_split(stored.parts)
    if template:
        say((stored.preset and stored.preset.template) or headers[0].chat_template or "")
        return
    with patience(f"hashing {stored.path.name}", settings):  # where no pull has done so
        facts = store.describe(stored, headers)
    measured, damaged = results.whole_and_damaged(stored.sha256)
    for error in damaged:
        note(f"damaged: {error}", settings)
    thinking = thinking_of(facts["template"] or "")
    making = making_of(headers[0])
    if as_json:
        more = {
            "thinking": thinking is not None,
            "measured": [results.to_json(result) for result in measured],
            "making": making and making.to_json(),
        }
        say(json.dumps(facts | more, indent=1))
        return
    kept = facts.pop("preset", None)
    if stored.preset and stored.preset.is_stand_in:
        facts = {"stands for": stored.preset.stands_for} | facts
    facts["thinking"] = str(thinking or "no")
    if stored.projector is None:
        del facts["projector"]
    if making:
        facts |= {**dict(made_of(making)), "made by": making.versions, "again": making.command}
    width = max(len(label) for label in facts)
    for label, value in facts.items():
        say(f"{label:<{width}}  {_readable(label, value)}")
    if making:
        say(lost(making))
    if stored.preset and kept:
        say("\n".join(shown(stored.preset)))
    for result in measured:
        say(f"{'measured':<{width}}  {result}")


def _readable(label: str, value: Any) -> str:
    if value is None:
        return "not said in the file"
    if label == "bytes":
        return f"{value:,} ({size(value)})"
    if label == "tensor types":
        return ", ".join(f"{kind} {count}× ({size(of)})" for kind, (count, of) in value.items())
    if label == "template":
        first = value.strip().splitlines()[0] if value.strip() else ""
        return f"{len(value):,} characters: {first[:60]}… (`--template` shows all)"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
