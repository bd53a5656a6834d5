"""How long a model stays in memory after its last use, as a person or a program writes it."""

from __future__ import annotations

import re
from typing import Any

FOR_EVER = -1.0
MOST_KEPT_S = 10**9
DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
PIECE = re.compile(r"([\d.]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


def seconds(given: Any) -> Any:
    """A number of seconds, or a duration as Go writes it ("1h30m"); below zero is for good. Raises ValueError."""
    if isinstance(given, str):
        if DURATION.fullmatch(given):
            size = sum(float(number) * UNITS_S[unit] for number, unit in PIECE.findall(given))
            given = -size if given.startswith("-") else size
        elif re.fullmatch(r"[-+]?\d{1,12}", given, re.ASCII):
            given = int(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError("it is a number of seconds or a duration such as 5m")
    return FOR_EVER if given < 0 else min(given, MOST_KEPT_S)
