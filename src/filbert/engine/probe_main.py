"""The probe's child: loads the engine as a worker and a scorer do, and says what came of it.

Answers {"problem": …, "openmp": [paths], "gpus": [names]}; problem is "" where the engine can be used.
"""

import psutil

from filbert.core.errors import EngineError
from filbert.engine.cards import cards
from filbert.engine.lifeline import open_lifeline


def main() -> None:
    say = open_lifeline()
    try:
        found = cards()  # loads the engine's package, which says better than its library what is missing

        from filbert.engine.capi import open_engine

        open_engine()
    except ImportError as exc:
        say({"problem": f"The engine cannot be opened. {exc}.", "openmp": [], "gpus": []})
    except EngineError as exc:
        say({"problem": str(exc), "openmp": [], "gpus": []})
    else:
        say({"problem": "", "openmp": openmp_libraries(), "gpus": [card["description"] for card in found]})


def openmp_libraries() -> list[str]:
    """Paths of the OpenMP runtimes mapped into this process; none where the system does not tell (macOS)."""
    process = psutil.Process()
    maps = process.memory_maps() if hasattr(process, "memory_maps") else []
    return sorted({mapped.path for mapped in maps if "omp" in mapped.path.replace("\\", "/").rpartition("/")[2]})


main()
