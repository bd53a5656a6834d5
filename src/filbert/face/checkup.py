"""What this machine has, what is installed, and what would help."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from filbert.core import paths
from filbert.core.files import nearest_folder, size
from filbert.core.machine import busy_cores, cores, has_avx2, is_x86, memory, processor
from filbert.core.settings import forgiving
from filbert.engine.load_options import LoadOptions
from filbert.engine.probe import EngineFound, probe
from filbert.engine.threads import Runtime
from filbert.models import store
from filbert.models.speed import kept_here
from filbert.version import __version__

LITTLE_MEMORY = 1_000_000_000
AMPLE_MEMORY = 4_000_000_000
LITTLE_DISK = 2_000_000_000
SMALL_STORE = 200_000_000  # the starter, and nothing a person would rather talk to
LOAD_OVER_S = 0.5


@dataclass(frozen=True, slots=True)
class MachineFound:
    """Sizes in bytes. avx2: None where the processor is no x86. busy_cores: what other programs keep busy.
    measured: when its speed was, in ISO 8601; "" where it was not."""

    system: str
    python: str
    processor: str
    avx2: bool | None
    cores: int
    busy_cores: float
    memory: int
    memory_available: int
    disk_free: int
    measured: str


@dataclass(frozen=True, slots=True)
class StoreFound:
    """models: how many, names of one file counted once, with `size_bytes` together. adapters: names of those that are
    LoRA adapters. damaged: a sentence each. unfinished: the bytes of each download that no name needs yet or any
    more."""

    folder: str
    writable: bool
    models: int
    size_bytes: int
    adapters: tuple[str, ...]
    damaged: tuple[str, ...]
    unfinished: tuple[int, ...]
    settings_file: str
    has_settings_file: bool


@dataclass(frozen=True, slots=True)
class Checkup:
    filbert: str
    machine: MachineFound
    engine: EngineFound
    store: StoreFound
    advice: tuple[str, ...]


def checkup() -> Checkup:
    """Look at everything once, in about a second. Contacts nothing, changes nothing."""
    machine, found = _machine(), _store()  # the load first: the probe would be a part of it
    engine = probe(_runtime())
    return Checkup(__version__, machine, engine, found, tuple(advice(machine, engine, found)))


def advice(machine: MachineFound, engine: EngineFound, found: StoreFound) -> Iterator[str]:
    """What would help, a sentence or two each; nothing where all is well."""
    if engine.unsupported:
        yield f"{engine.unsupported} Models run on x86 processors with AVX2, and on Apple's."
    elif not engine.build:
        yield f"The engine is missing: install xllamacpp=={engine.made_for}."
    elif "libgomp" in engine.problem:
        yield f"{engine.problem} Install Filbert again, which brings an OpenMP runtime, or Debian's package libgomp1."
    elif engine.problem:
        yield engine.problem
    if machine.avx2 and machine.system.startswith("Linux") and not engine.bundled_openmp:
        yield "Install cmeel-libomp: with the system's OpenMP answers come slowly while other programs are busy."
    if machine.memory_available < LITTLE_MEMORY:
        yield f"Only {size(machine.memory_available)} of memory are free: close programs, or take a smaller model."
    if machine.disk_free < LITTLE_DISK:
        yield f"Only {size(machine.disk_free)} of disk are free: `filbert rm NAME`, or move all with FILBERT_HOME."
    if machine.busy_cores > machine.cores / 2:
        yield f"Other programs keep {machine.busy_cores:.1f} of {machine.cores} cores busy, which slows answers down."
    if not found.writable:
        yield f"{found.folder} cannot be written: point FILBERT_HOME at a folder you own."
    if not found.models:
        yield "There is no model yet: `filbert pull smollm2:135m` fetches a small one (98 MB)."
    elif found.size_bytes < SMALL_STORE and machine.memory_available > AMPLE_MEMORY:
        yield "This machine has room for larger models: `filbert list --available`."
    yield from found.damaged
    if found.unfinished:
        count, taken = len(found.unfinished), size(sum(found.unfinished))
        yield (
            f"Downloads that no name needs yet or any more ({count}) take {taken}: "
            "pull again to go on with them, or `filbert rm --unfinished` deletes all that is not being pulled now."
        )


def _runtime() -> Runtime:
    """The one models are loaded with; what is wrong with the settings, `filbert doctor` tells."""
    return forgiving(LoadOptions).openmp


def _machine() -> MachineFound:
    free, calibration = memory(), kept_here(forgiving(LoadOptions).threads)
    return MachineFound(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        processor=processor(),
        avx2=has_avx2() if is_x86() else None,
        cores=cores(),
        busy_cores=round(busy_cores(LOAD_OVER_S), 1),
        memory=free.total,
        memory_available=free.available,
        measured=calibration.measured if calibration else "",
        disk_free=shutil.disk_usage(nearest_folder(paths.models_folder())).free,
    )


def _store() -> StoreFound:
    (models, damaged), folder = store.whole_and_damaged(), paths.data_folder()
    there = nearest_folder(folder)
    sizes = {model.parts: model.size_bytes for model in models}
    return StoreFound(
        folder=str(folder),
        writable=os.access(there, os.W_OK) and there.is_dir(),
        models=len(sizes),
        size_bytes=sum(sizes.values()),
        adapters=tuple(model.name for model in models if model.kind == "adapter"),
        damaged=tuple(str(error) for error in damaged),
        unfinished=tuple(store.unfinished()),
        settings_file=str(paths.config_file()),
        has_settings_file=paths.config_file().is_file(),
    )
