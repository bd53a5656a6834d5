"""What the name of a quantisation says of a file: about how many bits a weight takes, and so how large and true it is.

The figures are those that llama.cpp's own `quantize` reports for the 8.03 billion weights of Llama 3.1 8B: other models
differ by a few percent, since some of their tensors are kept finer.
"""

from __future__ import annotations

import re
from types import MappingProxyType

LABEL = r"(i?q[1-8]|tq[12]|b?f16|f32|mxfp4)\w*"  # also those that come after the table
BITS_A_WEIGHT = MappingProxyType(
    {
        "iq1_s": 2.00,
        "iq1_m": 2.15,
        "iq2_xxs": 2.38,
        "iq2_xs": 2.59,
        "iq2_s": 2.74,
        "iq2_m": 2.93,
        "q2_k_s": 2.97,
        "q2_k": 3.16,
        "iq3_xxs": 3.25,
        "iq3_xs": 3.50,
        "q3_k_s": 3.64,
        "iq3_s": 3.66,
        "iq3_m": 3.76,
        "q3_k_m": 4.00,
        "mxfp4": 4.25,
        "q3_k_l": 4.30,
        "iq4_xs": 4.46,
        "q4_0": 4.64,
        "q4_k_s": 4.67,
        "iq4_nl": 4.68,
        "q4_k_m": 4.89,
        "q4_1": 5.11,
        "q5_0": 5.57,
        "q5_k_s": 5.57,
        "q5_k_m": 5.70,
        "q5_1": 6.04,
        "q6_k": 6.56,
        "q8_0": 8.50,
        "f16": 16.0,
        "bf16": 16.0,
        "f32": 32.0,
    }
)


def bits_a_weight(quantisation: str) -> float | None:
    """The more, the larger and the truer. None for a name that is not known."""
    return BITS_A_WEIGHT.get(quantisation.lower().removeprefix("ud-"))


def named_in(file: str) -> str | None:
    """The quantisation in the name of a file, spelt as here; None where there is none."""
    match = NAMED.search(file.lower())
    return match[1] if match else None


NAMED = re.compile(f"[-._/](?:ud-)?({'|'.join(sorted(BITS_A_WEIGHT, key=len, reverse=True))})(?=[-._/])")
