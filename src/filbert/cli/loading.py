"""How commands get their model: by name, pulled when it is not here, with its story told on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import note, patience, progress
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

    with Model(present(name or settings.model, settings, load.threads), load) as model:
        yield model


def present(name: str, settings: Settings, threads: int | None = None) -> StoredModel:
    """The stored model; one that is not here yet is pulled first, where there is an engine to load it. threads: those
    it will be run with."""
    from filbert.models import store

    if found := store.find(name):
        return found  # no bar: drawing one takes a while to import
    choice = chosen(name, settings, threads=threads)
    with progress(settings) as watch:
        return store.resolve_or_pull(name, watch, choice)


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
