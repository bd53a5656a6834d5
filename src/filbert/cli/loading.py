"""How commands get their model: by name, pulled when it is not here, with its story told on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import agreed, has_person, note, patience, progress
from filbert.cli.default_model import default_model
from filbert.core.errors import Cancelled
from filbert.core.files import size
from filbert.core.settings import Settings, configured
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.face.model import Model
    from filbert.models.choice import Choice
    from filbert.models.download_options import DownloadOptions
    from filbert.models.header import Kind
    from filbert.models.store import StoredModel

# Fields of LoadOptions that mean nothing where no text is generated, and where only scores are taken.
NO_TEXT = frozenset({"template", "kv", "batch", "speculation", "prompt_cache_mib"})
NO_WORKER = frozenset(LoadOptions.model_fields) - {"context", "threads", "openmp", "adapters", "stall_s"}
UNASKED_BYTES = 10**9

MODEL = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A model's name, or the path of a GGUF file. Left out: the setting `model`.",
        show_default=False,
        autocompletion=installed_names,
    ),
]


@contextmanager
def loaded(
    name: str, load: LoadOptions, settings: Settings, meanwhile: Iterable[str] = (), kind: Kind = "language"
) -> Iterator[Model]:
    """A model that answers. meanwhile: modules to import while it loads, which happens in a process of its own.
    kind: of the model where none is named."""
    with opened(name, load, settings, kind) as model:
        Thread(target=lambda: [import_module(module) for module in meanwhile], daemon=True).start()
        with patience(f"loading {model.name}", settings):
            model.wait_until_loaded()
        note(model.summary, settings)
        yield model


@contextmanager
def opened(name: str, load: LoadOptions, settings: Settings, kind: Kind = "language") -> Iterator[Model]:
    """A model whose children start when they are needed."""
    from filbert.face.model import Model

    with Model.shared(
        present(name or default_model(settings, kind), settings, load.threads, consent(settings)), load
    ) as model:
        yield model


def present(
    name: str, settings: Settings, threads: int | None = None, before: Callable[[str], None] = lambda name: None
) -> StoredModel:
    """The stored model; one that is not here yet is pulled first, where there is an engine to load it. threads: those
    it will be run with. before: called with the name of what is to be pulled; what it raises prevents that."""
    from filbert.models import store

    if found := store.find(name):
        return found  # no bar: drawing one takes a while to import
    choice = chosen(name, settings, threads=threads)
    before(choice.name if choice else name)
    with progress(settings) as watch:
        return store.resolve_or_pull(name, watch, choice)


def consent(settings: Settings, unasked_bytes: int = UNASKED_BYTES) -> Callable[[str], None]:
    """What comes before a download: on a terminal its size is told, and a yes is needed where it is larger than that
    or nobody knows it (Cancelled without one). Where nobody can be asked, a model is pulled as `filbert pull` does."""
    from filbert.core.machine import unsupported_by_engine
    from filbert.models.remote import need_network

    def ask(name: str) -> None:
        if unsupported_by_engine() or settings.quiet or not has_person():
            return  # without an engine nothing will be downloaded
        need_network(name)
        size_bytes, told = _download_size(name)
        if size_bytes is not None and size_bytes <= unasked_bytes:
            note(f"{name} is not here: {told} to download.", settings)
        elif not agreed(f"{name} is not here. Download {told}?", default=False):
            raise Cancelled("Nothing was downloaded.")

    return ask


def _download_size(text: str) -> tuple[int | None, str]:
    """Bytes, and how to say them. Raises DownloadFailed where it cannot be downloaded."""
    from filbert.cli.catalogue_table import size_of
    from filbert.models import catalogue, manifest, store
    from filbert.models.download_options import DownloadOptions
    from filbert.models.name import divided
    from filbert.models.offers import likely_size
    from filbert.models.sources import source_of

    name = store.meant(divided(text)[0])
    if name.scheme == "catalogue":
        entry = catalogue.find(name, manifest.installed_names())
        return likely_size(entry), size_of(entry)
    sizes = [file.size_bytes for file in source_of(name).locate(name, configured(DownloadOptions)).files]
    known = [each for each in sizes if each is not None]
    return (sum(known), size(sum(known))) if len(known) == len(sizes) else (None, "an unknown number of bytes")


def chosen(
    name: str, settings: Settings, options: DownloadOptions | None = None, threads: int | None = None
) -> Choice | None:
    """Which of several quantisations to take, told."""
    from filbert.core.machine import unsupported_by_engine
    from filbert.models.choice import choose
    from filbert.models.name import divided

    if unsupported_by_engine():
        return None
    if choice := choose(divided(name)[0], options, threads):
        note(choice.why, settings)
    return choice
