"""What a person keeps with a model: defaults for it, or a name of their own that stands for it with others.

    <models>/presets/<slug>-<hash>.json         one record a name, written whole
    <models>/presets/<slug>-<hash>.json.lock    held while it is changed

A name of one's own may stand for another of one's own, for a base with adapters ("smollm2:135m+my-adapter") and for a
file where it lies. Nothing that is installed is hidden by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from filbert.core import paths
from filbert.core.errors import BadInput, BadModelFile, FilbertError, UnknownModel
from filbert.core.files import disk_errors, locked, write_whole
from filbert.core.nearest import did_you_mean
from filbert.core.settings import Options
from filbert.models import catalogue
from filbert.models.manifest import manifest_file, manifest_of, read_each, read_manifests
from filbert.models.name import divided, parse

if TYPE_CHECKING:
    from filbert.models.installed import StoredModel

MOST_RECORD_BYTES = 32 << 20
T = TypeVar("T", bound=Options)


class Example(BaseModel):
    """A message that stands before every conversation."""

    model_config = ConfigDict(frozen=True)
    role: Literal["system", "user", "assistant"]
    content: str


class Preset(BaseModel):
    """`load` and `sampling` hold fields of LoadOptions and Sampling. of: what the name stands for; the name itself
    where these are the defaults of an installed model. licence: what a Modelfile says. keep_alive: seconds that a
    server keeps the model in memory after its last use, below zero for good; None leaves it to the server."""

    model_config = ConfigDict(frozen=True)
    format: Literal[1] = 1
    name: str
    of: str
    load: Mapping[str, Any] = Field(default_factory=dict)
    sampling: Mapping[str, Any] = Field(default_factory=dict)
    system: str = ""
    examples: tuple[Example, ...] = ()
    licence: str = ""
    keep_alive: float | None = None

    @property
    def template(self) -> str:
        """The chat template in place of the file's, "" for that."""
        return str(self.load.get("template") or "")

    @property
    def is_stand_in(self) -> bool:
        """Whether this is a name of its own."""
        return self.name != self.of

    @property
    def stands_for(self) -> str:
        """What a person is told that it stands for: a file by its name alone, "" for an installed model's defaults."""
        pieces = [Path(piece).name if parse(piece).scheme == "file" else piece for piece in divided(self.of)]
        return "+".join(pieces) if self.is_stand_in else ""

    def over(self, base: Preset | None) -> Preset:
        """This preset upon that of what it stands for."""
        if base is None:
            return self
        return self.model_copy(
            update={
                "load": {**base.load, **self.load},
                "sampling": {**base.sampling, **self.sampling},
                "system": self.system or base.system,
                "examples": self.examples or base.examples,
                "licence": self.licence or base.licence,
                "keep_alive": base.keep_alive if self.keep_alive is None else self.keep_alive,
            }
        )


def with_preset(options: T, preset: Preset | None) -> T:
    """LoadOptions or Sampling with what a preset keeps, where neither a flag nor a variable says otherwise.
    Raises BadSetting."""
    if preset is None:
        return options
    return options.over_preset(preset.name, preset.load if options.table == "load" else preset.sampling)


# --- records --------------------------------------------------------------------------------------------------------


def presets_folder() -> Path:
    return paths.models_folder() / "presets"


def preset_file(name: str) -> Path:
    return presets_folder() / manifest_file(name).name


def kept(name: str) -> Preset | None:
    """What is kept under a name as the store spells it. Raises BadModelFile."""
    return kept_beside(manifest_file(name))


def kept_beside(manifest: Path) -> Preset | None:
    """What is kept with the model of a manifest. Raises BadModelFile."""
    path = presets_folder() / manifest.name
    return read_preset(path) if path.is_file() else None


def read_preset(path: Path) -> Preset:
    """Raises BadModelFile where the record is cut, foreign or hostile."""
    try:
        with path.open("rb") as file:
            preset = Preset.model_validate_json(file.read(MOST_RECORD_BYTES))
        if preset_file(preset.name) != path:
            raise BadInput("It is of another name.")
    except (OSError, ValidationError, BadInput) as exc:
        raise BadModelFile(
            f"The record {path.name} of a preset is damaged.",
            why="No model is lost by it.",
            do="`filbert set NAME --clear` mends it, and `filbert rm NAME` takes a name of your own away.",
        ) from exc
    return preset


def stand_ins() -> tuple[list[Preset], list[FilbertError]]:
    """The names of people's own, and a sentence for each preset that cannot be read."""
    presets, errors = read_each(sorted(presets_folder().glob("*.json")), read_preset)
    return [preset for preset in presets if preset.is_stand_in], [*errors]


def stand_in_names() -> list[str]:
    return [preset.name for preset in stand_ins()[0]]


def standing_on(name: str) -> list[str]:
    """The names of people's own that need one as the store spells it: those that stand for it, also with adapters or
    as an adapter, and those that stand for these."""
    own, found = stand_ins()[0], [name]
    for needed in found:  # grows while it is read
        found += [each.name for each in own if needed in _pieces(each) and each.name not in found]
    return found[1:]


def _pieces(preset: Preset) -> list[str]:
    return [*divided(preset.of), *preset.load.get("adapters", ())]


@contextmanager
def changing(name: str) -> Iterator[Callable[[Preset], None]]:
    """Hold a preset against other processes, and get the way to write it."""
    path = preset_file(name)

    def write(preset: Preset) -> None:
        with write_whole(path) as file:
            file.write(preset.model_dump_json(indent=1, exclude_defaults=True).encode())

    with locked(path.with_name(f"{path.name}.lock")):
        yield write


def forget(name: str) -> None:
    """Take away what is kept under a name as the store spells it, also a damaged record."""
    forget_beside(manifest_file(name))


def forget_beside(manifest: Path) -> None:
    """Take away what is kept with the model of a manifest."""
    path = presets_folder() / manifest.name
    if path.is_file():
        with locked(path.with_name(f"{path.name}.lock")), disk_errors(path):
            path.unlink(missing_ok=True)


def forget_orphan(name: str) -> None:
    """Take away what a removal that was stopped left of another model of this name: it is not this one's."""
    if not manifest_file(name).is_file() and not is_stand_in(name):
        forget(name)


# --- from a name to a model -----------------------------------------------------------------------------------------

Finder = Callable[[str], "StoredModel | None"]


def is_stand_in(text: str) -> bool:
    """Whether a text is a name of one's own; an installed model of exactly that name comes first."""
    name = parse(text).text
    path = preset_file(name)
    if not path.is_file() or manifest_file(name).is_file():
        return False
    try:
        return read_preset(path).is_stand_in
    except BadModelFile:  # told where it is used
        return True


def need_unhidden(own: Preset) -> None:
    """Raises BadInput for a name of one's own that has become an installed model's, too."""
    if manifest_file(own.name).is_file():
        raise BadInput(
            f"{own.name} is an installed model now.",
            why=f"It no longer stands for {own.stands_for}.",
            do=f"`filbert set {own.name} --clear` forgets that.",
        )


def find(text: str, named: Finder, anything: Finder, seen: tuple[str, ...] = ()) -> StoredModel | None:
    """The model that a text names, with its adapters and with what is kept for it. named: finds what the caller may
    name; anything: what a person's own preset may stand for, also a path. Raises UnknownModel, BadInput, BadModelFile.
    """
    base, *adapters = divided(text)
    found = _stood_for(base, anything, seen) if is_stand_in(base) else named(base)
    if found is None:
        return None
    if not found.preset and (own := kept(found.name)) and not own.is_stand_in:
        found = replace(found, preset=own)
    for adapter in adapters:
        found = _adapted(found, adapter, named(adapter))
    return found


def _stood_for(text: str, anything: Finder, seen: tuple[str, ...]) -> StoredModel:
    preset = kept(parse(text).text)
    assert preset
    if preset.name in seen:
        raise BadInput(
            f"{preset.name} stands for itself.",
            why=f"{' → '.join((*seen, preset.name))}.",
            do=f"`filbert set {preset.name} of=MODEL` names another.",
        )
    try:
        base = find(preset.of, anything, anything, (*seen, preset.name))
    except ModelGone as exc:
        raise ModelGone(preset, exc.back) from exc
    except UnknownModel as exc:  # a file, or an adapter
        raise ModelGone(preset, f"`filbert set {preset.name} of=MODEL` names another") from exc
    if base is None:
        raise ModelGone(preset, _way_back(preset))
    return replace(base, name=preset.name, preset=preset.over(base.preset))


class ModelGone(UnknownModel):
    """What a name of one's own stands for is not here any more. back: how it comes back, as the start of a sentence."""

    def __init__(self, preset: Preset, back: str) -> None:
        super().__init__(
            f"{preset.name} stands for {preset.stands_for}, which is not here any more.",
            do=f"{back}, or `filbert rm {preset.name}` takes the name away.",
        )
        self.back = back


class UnknownAdapter(UnknownModel):
    """The model is here, what was named after it is not. among: the names of the adapters that are."""

    def __init__(self, name: str, among: Sequence[str], otherwise: str) -> None:
        super().__init__(f"There is no adapter {name}.", do=did_you_mean(name, among, otherwise))
        self.name = name


def _way_back(preset: Preset) -> str:
    """How what a name stands for comes back, where it can be fetched."""
    name = parse(divided(preset.of)[0])
    entry = next((entry for entry in catalogue.entries() if name.text in (entry.name, entry.short)), None)
    if entry:
        is_only = len(catalogue.quantisations(entry.short)) == 1
        return f"`filbert pull {entry.short if is_only else entry.name}` gets it again"
    if name.scheme == "catalogue":
        return f"`filbert set {preset.name} of=MODEL` names another"
    return f"`filbert pull {name.text}` gets it again"


def _adapted(base: StoredModel, text: str, adapter: StoredModel | None) -> StoredModel:
    if adapter is None:
        names = [manifest.name for manifest in read_manifests()[0] if manifest.kind == "adapter"]
        raise UnknownAdapter(text, names, "`filbert list` shows what is here; a path works as well.")
    name = adapter.name if adapter.pulled else adapter.path.stem
    return replace(
        base,
        name=f"{base.name}+{name}",
        adapters=(*base.adapters, adapter.path),
        size_bytes=base.size_bytes + adapter.size_bytes,
    )


def need_free(name: str) -> str:
    """The name as the store spells it, where it may be one of a person's own. Raises BadInput for what names something
    else: a file, an address, a model that is installed or in the catalogue."""
    parsed = parse(name)
    if parsed.scheme != "catalogue":
        raise BadInput(f"{name!r} cannot be a name of your own.", do="Take a word such as my-model or writer:short.")
    if manifest := manifest_of(parsed):
        raise BadInput(
            f"{name} is an installed model.", why=f"It is {manifest.stem}.", do="Take another name for the preset."
        )
    if any(parsed.text in (entry.name, entry.short) for entry in catalogue.entries()):
        raise BadInput(f"{name} is a model of the catalogue.", do="Take another name for the preset, or pull it first.")
    return parsed.text
