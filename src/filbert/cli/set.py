"""`filbert set`: defaults that stay with a model, and names of one's own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from filbert.cli.completion import installed_names, preset_keys
from filbert.cli.console import note, say
from filbert.cli.flags_from_options import fields_by_flag, flag, with_options
from filbert.core.errors import BadInput
from filbert.core.files import read_text_file
from filbert.core.settings import Settings

if TYPE_CHECKING:
    from filbert.models.preset import Preset


class SetCommand(TyperCommand):
    """Tells somebody who writes a preset's key as a flag how it is written."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {spelling for each in self.params for spelling in each.opts}
        for given, following in pairwise([*args, "VALUE"]):
            name, sign, value = given.partition("=")
            if name.startswith("--") and name not in own and (key := _keys_by_flag().get(name)):
                written = f"{key}={shlex.quote(value if sign else following)}"
                raise BadInput(f"`filbert set` has no flag {name}.", do=f"Write {written}.")
        return super().parse_args(ctx, args)


def _keys_by_flag() -> dict[str, str]:
    from filbert.face.presets import KINDS, preset_keys

    return {**{flag(key): key for key in preset_keys()}, **fields_by_flag(*KINDS)}


@with_options()
def set_preset(
    settings: Settings,
    name: Annotated[
        str, typer.Argument(help="An installed model, or a name of your own.", autocompletion=installed_names)
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            help="KEY=VALUE: any field of [load] and [sampling], system, keep_alive, of. KEY= takes one away; "
            "KEY=@FILE reads its text from a file.",
            autocompletion=preset_keys,
        ),
    ] = None,
    of: Annotated[
        str,
        typer.Option(
            "--from", help="What the name stands for; as of=MODEL.", show_default=False, autocompletion=installed_names
        ),
    ] = "",
    modelfile: Annotated[
        Path | None, typer.Option("--modelfile", metavar="FILE", help="Read Ollama's Modelfile.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Forget what was kept before.")] = False,
) -> None:
    """Keep defaults with a model, or name one anew. For example: context=8192 temperature=0 system="Be brief."
    A flag or a FILBERT_ variable beats them, and they beat the settings file. `filbert show NAME` prints them, and
    `filbert rm NAME` takes a name of your own away, not its model."""
    given = {**({"of": of} if of else {}), **dict(map(_pair, values or ()))}
    if not given and not modelfile and not clear:
        raise BadInput("There is nothing to set.", do=f"Try `filbert set {name} context=4096`.")
    keep(settings, name, given, modelfile, clear)


def keep(
    settings: Settings, name: str, given: Mapping[str, str], modelfile: Path | None = None, clear: bool = False
) -> None:
    """Keep values with a name, and show what it keeps now."""
    from filbert.face import presets
    from filbert.models.modelfile import read_modelfile

    read = read_modelfile(modelfile) if modelfile else None
    for line in shown(presets.change(name, given, clear=clear, modelfile=read)):
        say(line)
    if read and read.ignored:
        note(f"Not read, for they mean nothing here: {', '.join(read.ignored)}.", settings)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"{text[:60]} is no KEY=VALUE.", do="Write for example temperature=0.")
    return key.strip(), read_text_file(Path(value[1:]), value[1:]) if value.startswith("@") else value


def shown(preset: Preset) -> list[str]:
    """What is kept, a line each; long texts by their beginning."""
    rows: Mapping[str, Any] = {
        **({"stands for": preset.stands_for} if preset.is_stand_in else {}),
        **preset.load,
        **preset.sampling,
        **({} if preset.keep_alive is None else {"keep_alive": _how_long(preset.keep_alive)}),
        **({"system": preset.system} if preset.system else {}),
        **({"examples": f"{len(preset.examples)} messages"} if preset.examples else {}),
        **({"licence": preset.licence} if preset.licence else {}),
    }
    return [preset.name, *(f"  {key:<12}  {_short(value)}" for key, value in rows.items())]


def _how_long(keep_s: float) -> str:
    return "for good" if keep_s < 0 else f"{keep_s:,.10g} s"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    first, *more = text.strip().splitlines() or [""]
    return f"{first[:80]}… ({len(text):,} characters)" if more or len(first) > 80 else first
