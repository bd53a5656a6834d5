"""How a sha256 is written: 64 hex digits in lower case. Only such a text may become a path or a claim."""

from __future__ import annotations

import re

DIGITS = "[0-9a-f]{64}"
WHOLE = f"^{DIGITS}$"
WHOLE_OR_NONE = f"^({DIGITS})?$"


def is_sha256(text: str) -> bool:
    return re.fullmatch(DIGITS, text) is not None
