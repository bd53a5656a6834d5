"""What is a graphics card, in a process that may load the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Device = Mapping[str, Any]


def cards() -> list[Device]:
    """The engine's devices that are graphics cards, in its own order."""
    import xllamacpp

    kinds = xllamacpp.ggml_backend_dev_type
    gpu, inside = kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU
    return chosen(xllamacpp.get_device_info(), gpu, inside)


def chosen(devices: Iterable[Device], gpu: object, inside: object) -> list[Device]:
    """Cards of their own; where there are none, those inside the processor. What only speeds up the processor (BLAS)
    is none."""
    found = list(devices)
    own = [each for each in found if each["type"] == gpu]
    return own or [each for each in found if each["type"] == inside]
