"""What a file is to be, in a person's words: a type, a size, bits a weight, a device, a quality, a speed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from filbert.core.errors import BadInput
from filbert.core.files import SIZE, bytes_of

FEW_BITS = 3.8  # a weight, from which on types of less than three bits are of use
Kind = Literal["size", "bpw", "device", "quality", "speed"]
FORMS: dict[Kind, str] = {
    "size": SIZE.pattern,
    "bpw": r"(\d+(?:\.\d+)?) ?bpw",
    "device": r"device=(.+)",
    "quality": r"kld=(\d+(?:\.\d+)?(?:e-\d+)?)",
    "speed": r"(\d+(?:\.\d+)?) ?tokens/s",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """value: bytes of the file or of the device's memory, bits a weight, nats a token, or tokens a second; text: how a
    person wrote it, by which files are called."""

    kind: Kind
    value: float
    text: str

    def is_small(self, count: int) -> bool:
        """Whether so many weights in it have few bits each."""
        bits = {"size": 8 * self.value / count, "bpw": self.value}
        return bits.get(self.kind, FEW_BITS) < FEW_BITS


def wanted(text: str) -> Wanted | None:
    """As 90MB, 4.5bpw, device=8GB, kld=0.02, 20tokens/s; None for what is none of them, as the name of a type. Raises
    BadInput for one of nothing."""
    for kind, form in FORMS.items():
        if found := re.fullmatch(form, text.strip(), re.IGNORECASE):
            told = found[0] if kind == "size" else found[1]
            value = bytes_of(told) if kind in ("size", "device") else float(told)
            if not value > 0:
                raise BadInput(f"{text!r} asks for nothing.", do="Ask for more than 0.")
            return Wanted(kind, value, re.sub(r"[\s/=]", "-", text.strip()))
    return None
