"""Asking a web server for a file, and saying its errors in our own words."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Timer
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from filbert.core.errors import DownloadFailed
from filbert.core.jobs import Job, Progress
from filbert.core.sha256 import is_sha256
from filbert.models.download_options import DownloadOptions
from filbert.models.redirects import Redirects
from filbert.models.remote import RemoteFile
from filbert.version import __version__

LONGEST_PAUSE_S = 30.0
LONGEST_ANSWER_S = 60.0  # of one question; a byte now and then keeps any limit of a single wait from passing
T = TypeVar("T")


class Interrupted(Exception):
    """Worth another try: a lost connection, a stall, a server that is busy."""

    def __init__(self, why: str, wait_s: float = 0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class NameUnknown(Interrupted):
    """No address belongs to a host's name. In the middle of a download that passes; at its beginning it rarely does."""


class Changed(Exception):
    """What the server has is not what it had when the download began."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server says of a file. validator: its ETag or date, which changes when the file does."""

    size_bytes: int | None
    validator: str
    ranges: bool
    sha256: str


@contextmanager
def web_client(url: str, options: DownloadOptions) -> Iterator[httpx.Client]:
    """A client that never leaves https once it is on it, nor the public internet. Proxies and certificates come from
    the environment."""
    with httpx.Client(
        follow_redirects=True,
        max_redirects=10,
        timeout=options.stall_s,
        headers={"User-Agent": f"filbert/{__version__}", "Accept-Encoding": "identity"},
        event_hooks={"request": [Redirects(url).look_at]},
    ) as client:
        yield client


def ask(client: httpx.Client, remote: RemoteFile) -> Offer:
    """Ask for the first byte: some servers answer no HEAD, and only this shows whether ranges work."""
    try:
        offer = _asked(client, remote)
    except NameUnknown as exc:
        raise DownloadFailed(
            f"Could not download {remote.name}.", why=str(exc), do="Check the address, and the network."
        ) from exc
    if None not in (remote.size_bytes, offer.size_bytes) and remote.size_bytes != offer.size_bytes:
        raise DownloadFailed(
            f"The server offers {offer.size_bytes} bytes of {remote.name}.",
            why=f"{remote.size_bytes} were promised.",
            do="Try another source.",
        )
    return replace(offer, size_bytes=remote.size_bytes if offer.size_bytes is None else offer.size_bytes)


def _asked(client: httpx.Client, remote: RemoteFile) -> Offer:
    with (
        longest_answer(client.close, urlsplit(remote.url).hostname or remote.name),
        web_errors(remote.name),
        client.stream("GET", remote.url, headers={**remote.headers, "Range": "bytes=0-0"}) as answer,
    ):
        refuse_bad(answer, remote.name)
        total = re.fullmatch(r"bytes 0-0/([0-9]{1,19})", answer.headers.get("Content-Range", ""))
        ranges = answer.status_code == 206 and total is not None
        size = int(total[1]) if ranges and total else content_length(answer)
        return Offer(size, validator_of(answer), ranges, _promised_hash(answer))


@contextmanager
def longest_answer(close: Callable[[], object], host: str, most_s: float | None = None) -> Iterator[None]:
    """Break the connections of a question once it took too long: `close` is called from another thread. Raises
    DownloadFailed then."""
    is_late = Event()

    def stop() -> None:
        is_late.set()
        close()

    timer = Timer(LONGEST_ANSWER_S if most_s is None else most_s, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if is_late.is_set():  # whatever the broken connection led to
            raise DownloadFailed(f"{host} is too slow to tell what it has.", do="Try again later.")


@contextmanager
def web_errors(name: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as exc:
        raise Interrupted(f"{exc.request.url.host} sent nothing for too long.") from exc
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as exc:
        raise DownloadFailed(
            f"Could not download {name}.", why=f"{str(exc).rstrip('.')}.", do="Check the address."
        ) from exc
    except httpx.HTTPError as exc:
        if _is_name_error(exc):
            raise NameUnknown(f"The name {exc.request.url.host} is not known here, or there is no network.") from exc
        broken = isinstance(exc, httpx.ReadError | httpx.RemoteProtocolError)
        why = str(exc).rstrip(".") or type(exc).__name__
        raise Interrupted(f"{exc.request.url.host} {'broke off' if broken else 'cannot be reached'} ({why}).") from exc


def _is_name_error(exc: BaseException) -> bool:
    before = exc.__cause__ or exc.__context__  # httpcore's pool raises its errors "from None"
    return isinstance(exc, socket.gaierror) or (before is not None and _is_name_error(before))


def refuse_bad(answer: httpx.Response, name: str) -> None:
    status, host = answer.status_code, answer.url.host
    if status in (408, 429) or status >= 500:
        asked = answer.headers.get("Retry-After", "")
        raise Interrupted(f"{host} answered {status}.", float(_number(asked) or 0))
    if status in (401, 403):
        raise DownloadFailed(
            f"{host} does not let you have {name}.",
            why=f"It answered {status}: the model is private, or its terms are not accepted yet.",
            do="Accept them on its page, then set HF_TOKEN.",
        )
    if status in (404, 410):
        raise DownloadFailed(f"{host} has no {name}.", why=f"It answered {status}.", do="Check the spelling.")
    if status not in (200, 206):
        raise DownloadFailed(f"Could not download {name}.", why=f"{host} answered {status}.", do="Check the address.")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadFailed(
            f"Could not download {name}.", why=f"{host} insists on compressing it.", do="Use another source."
        )


def check_same(answer: httpx.Response, offer: Offer, at: int, name: str) -> None:
    """Raises Changed where an answer is not the next piece, from byte `at`, of what was offered."""
    if answer.status_code == 416:
        raise Changed
    refuse_bad(answer, name)
    if validator_of(answer) != offer.validator:
        raise Changed
    if offer.ranges and answer.headers.get("Content-Range") is None:
        raise Changed
    if offer.ranges and answer.headers["Content-Range"].partition("-")[0] != f"bytes {at}":
        raise DownloadFailed(
            f"Could not download {name}.",
            why=f"{answer.url.host} sends other bytes than it was asked for.",
            do="Use another source.",
        )
    if (
        not offer.ranges
        and None not in (content_length(answer), offer.size_bytes)
        and content_length(answer) != offer.size_bytes
    ):
        raise Changed


def content_length(answer: httpx.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return _number(text) if answer.status_code == 200 else None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None


def validator_of(answer: httpx.Response) -> str:
    return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")


def _promised_hash(answer: httpx.Response) -> str:
    """The hub names the sha256 of a large file on the answer that redirects to it."""
    for hop in (*answer.history, answer):
        tag = hop.headers.get("X-Linked-ETag", "").strip('W/"')
        if is_sha256(tag):
            return str(tag)
    return ""


def insist(
    act: Callable[[], T],
    options: DownloadOptions,
    wait: Callable[[float], object],
    gained: Callable[[], int] = lambda: 0,
) -> Job[T]:
    """Do `act` again while it is interrupted, saying so; failures count from the last time that `gained` grew."""
    failures, before = 0, gained()
    while True:
        try:
            return act()
        except Interrupted as exc:
            failures = 1 if gained() > before else failures + 1
            before = gained()
            if failures > options.retries:
                raise DownloadFailed(
                    "The download stopped.", why=str(exc), do="Run the command again: it goes on where it stopped."
                ) from exc
            yield Progress(f"trying again: {str(exc).rstrip('.')}")
            wait(min(LONGEST_PAUSE_S, max(exc.wait_s, options.pause_s * 2 ** (failures - 1))))
