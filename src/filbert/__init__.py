"""Filbert puts open language models in a nutshell.

    import filbert

    with filbert.load("smollm2:135m") as model:
        for chunk in model.generate("Why is the sky blue?"):
            print(chunk.text, end="")

Names are loaded when they are first used, so that `import filbert` costs nothing.
"""

from typing import TYPE_CHECKING, Any

from filbert.version import __version__

if TYPE_CHECKING:
    from filbert.chat.session import ChatSession
    from filbert.core.errors import FilbertError
    from filbert.core.messages import Message
    from filbert.engine.generation import AsyncGeneration, Chunk, Generation, Reply
    from filbert.engine.load_options import LoadOptions
    from filbert.engine.sampling import Sampling
    from filbert.engine.tools import Tool
    from filbert.face.model import Model, abench, afidelity, aload, bench, fidelity, load

_HOMES = {
    "ChatSession": "filbert.chat.session",
    "Message": "filbert.core.messages",
    "FilbertError": "filbert.core.errors",
    "AsyncGeneration": "filbert.engine.generation",
    "Chunk": "filbert.engine.generation",
    "Generation": "filbert.engine.generation",
    "Reply": "filbert.engine.generation",
    "LoadOptions": "filbert.engine.load_options",
    "Sampling": "filbert.engine.sampling",
    "Tool": "filbert.engine.tools",
    "Model": "filbert.face.model",
    "abench": "filbert.face.model",
    "afidelity": "filbert.face.model",
    "aload": "filbert.face.model",
    "bench": "filbert.face.model",
    "fidelity": "filbert.face.model",
    "load": "filbert.face.model",
}

__all__ = [
    "AsyncGeneration",
    "ChatSession",
    "Chunk",
    "FilbertError",
    "Generation",
    "LoadOptions",
    "Message",
    "Model",
    "Reply",
    "Sampling",
    "Tool",
    "__version__",
    "abench",
    "afidelity",
    "aload",
    "bench",
    "fidelity",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'filbert' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
