"""One question to the hub, or to its mirror in HF_ENDPOINT: in its client's session, bounded in bytes and time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

from huggingface_hub import close_session, get_session
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import get_token_to_send, hf_raise_for_status  # type: ignore[attr-defined]  # in no __all__

from filbert.core.errors import DownloadFailed, OfflineRefused
from filbert.core.settings import Settings
from filbert.models.redirects import Redirects
from filbert.models.web import longest_answer
from filbert.version import __version__

AnyHTTPError = cast(
    type[Exception], HfHubHTTPError.__bases__[0]
)  # of the HTTP library that this release of the client is built on
NO_SUCH_HOST = re.compile("Name or service not known|name resolution|No address|nodename nor|getaddrinfo failed")
WITHOUT_HUB = (
    f"What works without it: the starter (`filbert chat -m {Settings.model_fields['model'].default}`), "
    "models of your own (`filbert import`)."
)
MOST_ANSWER_BYTES = 32 << 20  # twenty repositories of some thousand files each
Asked = Mapping[str, str | int | bool | list[str]]


def endpoint() -> str:
    """The hub, or the mirror of it that somebody prefers."""
    return os.environ.get("HF_ENDPOINT") or ENDPOINT


def authorization() -> dict[str, str]:
    """The header with the person's token, where there is one."""
    token = get_token_to_send(None)
    return {"authorization": f"Bearer {token}"} if token else {}


def answer_of(path: str, asked: Asked, stall_s: float) -> bytes:
    """One request without the client's own retries, which take 23 seconds. Raises its errors, and
    DownloadFailed for an answer that is too long or too slow."""
    answer = bytearray()
    headers = {"user-agent": f"filbert/{__version__}", "accept-encoding": "gzip", **authorization()}
    url = f"{endpoint()}{path}"
    ways = {"trace": Redirects(url).trace()}
    with (
        unhurried(),
        get_session().stream("GET", url, params=asked, headers=headers, timeout=stall_s, extensions=ways) as response,
    ):
        hf_raise_for_status(response)
        if response.headers.get("content-encoding", "identity") not in ("identity", "gzip"):
            raise senseless("It is packed in a way that was not asked for.")  # twice packed, 64 kB may be 64 GB
        for block in response.iter_bytes():
            answer += block
            if len(answer) > MOST_ANSWER_BYTES:
                raise senseless(f"It has more than {MOST_ANSWER_BYTES >> 20} MiB.")
    return bytes(answer)


@contextmanager
def unhurried() -> Iterator[None]:
    """Break the session's connections once a question took too long. Raises DownloadFailed then."""
    with longest_answer(close_session, urlsplit(endpoint()).hostname or endpoint()):
        yield


@contextmanager
def lookup_errors(what: str) -> Iterator[None]:
    """The client's errors in our words: those that may come of any question to the hub."""
    try:
        yield
    except OfflineModeIsEnabled as exc:
        raise OfflineRefused(
            f"{what} is not on this machine.", why="HF_HUB_OFFLINE forbids the hub.", do="Unset it."
        ) from exc
    except HfHubHTTPError as exc:
        why = f"The hub answered {exc.response.status_code}."
        raise DownloadFailed(f"Could not look up {what}.", why=why, do="Try again later.") from exc
    except AnyHTTPError as exc:
        raise unreachable(exc) from exc


def unreachable(exc: Exception) -> DownloadFailed:
    """A name that means nothing is how a missing network shows. HF_ENDPOINT is told of to those who set it."""
    is_mirror = bool(os.environ.get("HF_ENDPOINT"))
    hub = f"The hub at {urlsplit(endpoint()).hostname} (HF_ENDPOINT)" if is_mirror else "The hub"
    told = str(exc).rstrip(".") or "it is too slow to answer"
    why = "no network, or its name is not known here" if NO_SUCH_HOST.search(told) else told
    return DownloadFailed(f"{hub} cannot be reached: {why}.", do=WITHOUT_HUB)


@contextmanager
def senseless_answers() -> Iterator[None]:
    """The client takes an answer apart without looking: what it stumbles over is not what the hub's protocol says."""
    try:
        yield
    except HFValidationError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise senseless("It does not speak the hub's protocol.") from exc


def senseless(why: str) -> DownloadFailed:
    host = urlsplit(endpoint()).hostname
    do = "Check HF_ENDPOINT." if os.environ.get("HF_ENDPOINT") else "Try again later."
    return DownloadFailed(f"What the hub at {host} answered makes no sense.", why=why, do=do)
