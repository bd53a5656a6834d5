"""Other servers, whoever asks them: how their address and their key are written, and what they say went wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from filbert.core.addresses import is_address, is_loopback, is_public

KEY = re.compile(r"[\x21-\x7e]{1,4096}")
MOST_MESSAGE = 300  # characters of what it says went wrong


def server_address(given: str) -> str:
    """As its clients write it; one without a path means /v1. Raises ValueError."""
    parts = urlsplit(given.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\\]", given.strip()):
        raise ValueError("it is an address such as https://box.example/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an address holds no key: name the variable or the file of it")
    _ = parts.port  # raises ValueError
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def is_private(url: str) -> bool:
    """Whether hardly anybody can read what is sent there: it is encrypted, or stays on this machine or network. A name
    may lead anywhere, so that it does not count as near."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or is_loopback(host) or (is_address(host) and not is_public(host))


def problem(said: bytes | Mapping[str, Any]) -> tuple[str, str]:
    """Code and message of an error, as the many kinds of servers write it."""
    try:
        body = json.loads(said) if isinstance(said, bytes) else said
    except (ValueError, RecursionError):
        return "", ""
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "", _plain(error)
    return str(error.get("code"))[:64], _plain(error.get("message") or error.get("detail"))


def _plain(text: object) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text[:MOST_MESSAGE]).strip() if isinstance(text, str) else ""
