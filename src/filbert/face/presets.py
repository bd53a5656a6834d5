"""Change what is kept with a model, each value held against the options it stands for."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from filbert.core.errors import BadInput, BadModelFile, BadSetting, UnknownModel
from filbert.core.nearest import did_you_mean
from filbert.core.settings import Options, checked
from filbert.engine.keep_alive import seconds
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.sampling import Sampling
from filbert.models import preset, store
from filbert.models.gguf import check_split
from filbert.models.manifest import manifest_file, manifest_of
from filbert.models.modelfile import Modelfile, is_jinja, is_of
from filbert.models.name import divided, parse
from filbert.models.preset import Preset

MOST_TEXT = 1 << 20  # characters: more than any context holds
MOST_SHOWN = 120  # characters of a command in a sentence
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # the last are bytes that are no UTF-8
KINDS: tuple[type[Options], ...] = (LoadOptions, Sampling)
Given = str | Sequence[str]


def preset_keys() -> list[str]:
    """What a preset can hold, by name."""
    return ["of", "system", "keep_alive", *(name for options in KINDS for name in options.model_fields)]


def change(name: str, given: Mapping[str, Given], *, clear: bool = False, modelfile: Modelfile | None = None) -> Preset:
    """Keep values with a model that is here, or make a name that stands for another (`of`). An empty value takes its
    key away; clear: forget what was kept before. Raises UnknownModel, BadInput."""
    for key in given:
        _need_key(key)
    if clear:
        _forget_damaged(name)
    values = {**_said(modelfile), **given}
    of = values.pop("of", modelfile.of if modelfile else "")
    try:
        kept_name, stands_for = _meant(name, str(of))
    except UnknownModel as exc:
        if of or not _may_be_new(name):
            raise
        raise _new_name(name, values, exc) from exc
    with preset.changing(kept_name) as write:
        before = None if clear else preset.kept(kept_name)
        new = _changed(before or Preset(name=kept_name, of=stands_for), stands_for, values, modelfile)
        _check(new)
        write(new)
    return new


def _may_be_new(name: str) -> bool:
    """Whether a name that nothing has yet is one that a person may give."""
    try:
        return not preset.is_stand_in(name) and bool(preset.need_free(name))
    except BadInput:
        return False


def _new_name(name: str, values: Mapping[str, Given], exc: UnknownModel) -> UnknownModel:
    pairs = [f"{key}={value if isinstance(value, str) else ' '.join(value)}" for key, value in values.items()]
    written = shlex.join(["filbert", "set", name, "of=MODEL", *pairs])
    if len(written) > MOST_SHOWN:
        written = f"filbert set {name} of=MODEL …"
    return UnknownModel(exc.what, why=exc.why, do=f"A new name says what it stands for: `{written}`.")


def _forget_damaged(name: str) -> None:
    manifest = manifest_of(parse(name)) or manifest_file(parse(name).text)
    try:
        preset.kept_beside(manifest)
    except BadModelFile:
        preset.forget_beside(manifest)


def _said(modelfile: Modelfile | None) -> dict[str, Given]:
    if modelfile is None:
        return {}
    for what, texts in (("MESSAGE", [each.content for each in modelfile.examples]), ("LICENSE", [modelfile.licence])):
        _text(what, "\n".join(texts), MOST_TEXT)
    template = _template(modelfile)
    return {**modelfile.values, **({"template": template} if template else {})}


def _need_key(key: str) -> None:
    if key not in preset_keys():
        takes = f"It takes {', '.join(preset_keys())}."
        raise BadSetting(f"A preset has no key {key[:60]}.", do=did_you_mean(key[:60], preset_keys(), takes))


def _meant(name: str, of: str) -> tuple[str, str]:
    """The name under which it is kept, and what that stands for: itself for a model that is installed."""
    if preset.is_stand_in(name):
        kept_name = parse(name).text
        return kept_name, _spelled(of) if of else _stood_for(kept_name)
    if of:
        return preset.need_free(name), _spelled(of)
    found = store.resolve(name)
    if not found.pulled or found.adapters:
        raise BadInput(
            f"{name} is no installed model.",
            do=f"`filbert set my-model of={name}` keeps values under a name of your own.",
        )
    return found.name, found.name


def _stood_for(name: str) -> str:
    kept = preset.kept(name)
    return kept.of if kept else name


def _spelled(of: str) -> str:
    """What a name is to stand for, so that it means the same tomorrow and from any folder. Raises UnknownModel."""
    store.resolve(_text("of", of, MOST_TEXT))
    pieces = [of] if store.is_file_with_plus(of) else divided(of)
    names = [store.meant(piece) for piece in pieces]
    return "+".join(name.text if name.scheme == "file" else store.resolve(name.text).name for name in names)


def _changed(before: Preset, of: str, values: Mapping[str, Given], modelfile: Modelfile | None) -> Preset:
    load, sampling = dict(before.load), dict(before.sampling)
    system, keep_alive = before.system, before.keep_alive
    for key, value in values.items():
        if key == "system":
            system = _text(key, "".join(value), MOST_TEXT)
        elif key == "keep_alive":
            keep_alive = _seconds("".join(value)) if value else None
        else:
            place, options = (load, LoadOptions) if key in LoadOptions.model_fields else (sampling, Sampling)
            place.pop(key, None)
            if value:
                place.update(_checked(options, key, value))
    examples = modelfile.examples if modelfile else before.examples
    licence = modelfile.licence if modelfile else before.licence
    return before.model_copy(
        update={
            "of": of,
            "load": load,
            "sampling": sampling,
            "system": system,
            "examples": examples,
            "licence": licence,
            "keep_alive": keep_alive,
        }
    )


def _checked(options: type[Options], key: str, value: Given) -> dict[str, Any]:
    """The value as JSON keeps it, once its option has taken it."""
    kind = options.model_fields[key].annotation
    text = _text(key, value if isinstance(value, str) else "\n".join(value), MOST_TEXT)
    read: Any = value
    if isinstance(value, str):
        is_list, is_object = get_origin(kind) is tuple, any(get_origin(part) is dict for part in get_args(kind))
        is_json = is_object or (is_list and text.startswith("["))
        read = _json(key, text) if is_json else (text,) if is_list else text
    return {key: checked(options, {key: read}).model_dump(mode="json")[key]}


def _seconds(text: str) -> float:
    try:
        return float(seconds(text))
    except ValueError as exc:
        do = "Write keep_alive=3600, keep_alive=1h or, for good, keep_alive=-1."
        raise BadInput(f"keep_alive cannot be {text[:60]!r}.", why=f"{str(exc).capitalize()}.", do=do) from exc


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"{key} is not JSON.", why=f"{exc}.", do="""Write lists as '["one", "two"]'.""") from exc


def _text(key: str, text: str, most: int) -> str:
    if len(text) > most:
        raise BadInput(f"{key} has {len(text):,} characters, and {most:,} is the most.", do="Shorten it.")
    if found := CONTROLS.search(text):
        raise BadInput(f"{key} holds the control character {found[0]!r}.", do="Take it out.")
    return text


def _check(new: Preset) -> None:
    """Whether it can be loaded: it ends at a model, its options agree, adapters belong to the model."""
    _need_end(new)
    found = store.resolve(new.of)
    whole = new.over(found.preset if new.is_stand_in else None)
    load = preset.with_preset(checked(LoadOptions, {}), whole)
    preset.with_preset(checked(Sampling, {}), whole)
    if found.adapters or load.adapters:
        LoadPlan(found, load)


def _need_end(new: Preset) -> None:
    """Raises BadInput where what it stands for leads back to it."""
    seen, of = {new.name}, new.of
    while preset.is_stand_in(base := divided(of)[0]):
        name = parse(base).text
        below = preset.kept(name)
        if below is None or name in seen:
            raise BadInput(f"{new.name} would stand for itself.", do="Name another model with of=MODEL.")
        seen.add(name)
        of = below.of


def _template(modelfile: Modelfile) -> str:
    """The chat template to keep for a Modelfile: none where its Go template writes turns as the model's own does.
    Raises BadInput for another, which nothing here reads."""
    if not modelfile.template or is_jinja(modelfile.template):
        return modelfile.template
    own = check_split(store.resolve(modelfile.of).parts)[0].chat_template or ""
    if is_of(modelfile.template, own):
        return ""
    raise BadInput(
        "The Modelfile's TEMPLATE writes turns in another way than the model's own.",
        why="It is a Go template, which Filbert does not run.",
        do="Take it out and keep the model's own, or give one in Jinja with template=@FILE.",
    )
