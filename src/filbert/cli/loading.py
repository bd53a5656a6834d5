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
from filbert.core.errors import BadInput, Cancelled, DownloadFailed
from filbert.core.files import size
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions

if TYPE_CHECKING:
    from filbert.face.model import Model
    from filbert.models.choice import Choice
    from filbert.models.download_options import DownloadOptions
    from filbert.models.store import StoredModel

# Fields of LoadOptions that mean nothing where no text is generated, and where only scores are taken.
NO_TEXT = frozenset({"template", "kv", "batch", "speculation", "prompt_cache_mib"})
NO_WORKER = frozenset(LoadOptions.model_fields) - {"context", "threads", "openmp", "adapters", "stall_s"}


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
def loaded(name: str, load: LoadOptions, settings: Settings, meanwhile: Iterable[str] = ()) -> Iterator[Model]:
    """A model that answers. meanwhile: modules to import while it loads, which happens in a process of its own."""
    with opened(name, load, settings) as model:
        Thread(target=lambda: [import_module(module) for module in meanwhile], daemon=True).start()
        with patience(f"loading {model.name}", settings):
            model.wait_until_loaded()
        note(model.summary, settings)
        yield model


@contextmanager
def opened(name: str, load: LoadOptions, settings: Settings) -> Iterator[Model]:
    """A model whose children start when they are needed."""
    from filbert.face.model import Model

    with Model.shared(present(name or settings.model, settings, load.threads), load) as model:
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


def need_agreed(name: str) -> None:
    """Ask whether a model is to be downloaded, and say how large it is. Raises Cancelled for a no, and BadInput where
    nobody can be asked."""
    from filbert.core.machine import unsupported_by_engine
    from filbert.models.remote import need_network

    if unsupported_by_engine():
        return  # nothing will be downloaded
    large = _download_size(name)
    need_network(name)
    if not has_person():
        raise BadInput(f"{name} is not here.", why=f"It is {large} to download.", do=f"`filbert pull {name}` gets it.")
    if not agreed(f"{name} is not here. Download {large}?"):
        raise Cancelled("Nothing was downloaded.")


def _download_size(text: str) -> str:
    from filbert.cli.catalogue_table import size_of
    from filbert.models import catalogue, manifest, store
    from filbert.models.name import divided
    from filbert.models.remote_header import look

    name = store.meant(divided(text)[0])
    if name.scheme == "catalogue":
        return size_of(catalogue.find(name, manifest.installed_names()))
    try:
        return size(sum(header.size_bytes for header in look(name.text).headers))
    except DownloadFailed:  # a server that gives no part of a file
        return "an unknown number of bytes"


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
