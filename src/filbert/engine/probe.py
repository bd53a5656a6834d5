"""Whether the engine can be used here, tried in a child: an engine that dies takes nobody with it."""

from __future__ import annotations

from dataclasses import dataclass

from filbert.core.errors import EngineError
from filbert.core.machine import cores, engine_build, unsupported_by_engine
from filbert.engine.capi_layout import VERSION
from filbert.engine.child import Child
from filbert.engine.threads import Runtime, bundled_runtime
from filbert.models.architectures import LOADABLE

START_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineFound:
    """build: the installed version, "" for none. made_for: the one this Filbert knows. unsupported: why no build runs
    on this machine; problem: why this one cannot be used; "" where there is nothing. openmp: the runtimes it loads.
    bundled_openmp: whether Filbert brought one. gpus: the graphics cards it sees. architectures: the kinds of model it
    knows, as files name them."""

    build: str
    made_for: str
    unsupported: str
    problem: str
    openmp: tuple[str, ...]
    bundled_openmp: bool
    gpus: tuple[str, ...]
    architectures: tuple[str, ...]


def probe(openmp: Runtime) -> EngineFound:
    """Load the engine once. Raises nothing: what goes wrong is the answer."""
    unsupported = unsupported_by_engine()
    problem, libraries, gpus = (unsupported, (), ()) if unsupported else _try(openmp)
    return EngineFound(
        build=engine_build(),
        made_for=VERSION,
        unsupported=unsupported,
        problem=problem,
        openmp=libraries,
        bundled_openmp=bundled_runtime() is not None,
        gpus=gpus,
        architectures=tuple(sorted(LOADABLE)),
    )


def _try(openmp: Runtime) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The problem, or "" with the paths of the OpenMP runtimes and the graphics cards."""
    child = None
    try:
        child = Child("probe_main.py", {"threads": cores(), "openmp": openmp})
        told = child.hear(START_S)
        return told["problem"], tuple(told["openmp"]), tuple(told["gpus"])
    except EngineError as exc:
        return str(exc), (), ()
    finally:
        if child:
            child.stop()
