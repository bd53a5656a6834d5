"""A name that means another host a moment later (DNS rebinding): where a server sends us on to is known of the
connection, not of the name."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_servers import Origin, finish, sha256

from filbert.core.errors import DownloadFailed
from filbert.models import redirects
from filbert.models.download import download
from filbert.models.remote import RemoteFile
from filbert.models.sources.hub_search import search_hub

OPEN, CLOSED = "127.0.0.1", "127.0.0.2"  # in place of a public host, and of one of this network


class Inner:
    """A server of this network, that says what it was sent."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def asked(self) -> bytes:
        heard = b""
        self._listener.settimeout(0)
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return heard
            with connection:
                connection.settimeout(5)
                heard += connection.recv(1 << 16)


@pytest.fixture
def inner(origin: Origin) -> Iterator[Inner]:
    """At the port of the server outside."""
    with socket.create_server((CLOSED, origin.port)) as listener:
        yield Inner(listener)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names mean, from one look-up to the next; the last of it from then on."""
    meant: dict[str, list[str]] = {"a.example": [OPEN]}
    look_up = socket.getaddrinfo

    def looked_up(host: Any, *others: Any, **more: Any) -> Any:
        if isinstance(host, bytes):
            host = host.decode()
        if host in meant:
            host = meant[host].pop(0) if len(meant[host]) > 1 else meant[host][0]
        return look_up(host, *others, **more)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(redirects, "is_elsewhere", OPEN.__eq__)
    for proxy in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return meant


@pytest.fixture
def pull(origin: Origin, blob: bytes, tmp_path: Path) -> Callable[[str], bytes]:
    """The file at /x.gguf of a host with the server's port."""

    def pulled(host: str) -> bytes:
        target = tmp_path / "x.gguf"
        url = f"http://{host}:{origin.port}/x.gguf"
        finish(download(RemoteFile("model", "x.gguf", url, len(blob), sha256(blob)), target))
        return target.read_bytes()

    return pulled


def test_a_name_that_means_another_host_a_moment_later_gains_nothing(origin, names, inner, blob, pull) -> None:
    origin.add("/y.gguf", blob)
    origin.redirects = {"/x.gguf": f"http://rebind.example:{origin.port}/y.gguf"}
    names["rebind.example"] = [OPEN, CLOSED]  # looked up; connected to
    with pytest.raises(DownloadFailed, match="not of the public internet"):
        pull("a.example")
    assert inner.asked() == b""
    names["rebind.example"] = [OPEN]
    assert pull("a.example") == blob


def test_nor_does_the_name_that_a_person_gave(origin, names, inner, blob, pull) -> None:
    origin.add("/y.gguf", blob)
    origin.redirects = {"/x.gguf": "/y.gguf"}
    origin.headers = {"/x.gguf": {"Connection": "close"}}
    names["a.example"] = [OPEN, OPEN, CLOSED]
    with pytest.raises(DownloadFailed, match="not of the public internet"):
        pull("a.example")
    assert inner.asked() == b""


def test_nor_in_the_middle_of_a_download(origin, names, inner, blob, pull) -> None:
    origin.add("/x.gguf", blob)
    names["a.example"] = [OPEN, OPEN, CLOSED]  # its first connection, and the ones of the other ranges
    with pytest.raises(DownloadFailed, match="not of the public internet"):
        pull("a.example")
    assert inner.asked() == b""


def test_nor_where_the_hub_sends_its_client_on(origin, names, inner, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://a.example:{origin.port}")
    origin.add("/list", b"[]")
    origin.redirects = {"/api/models": f"http://rebind.example:{origin.port}/list"}
    names["rebind.example"] = [CLOSED]
    with pytest.raises(DownloadFailed, match="not of the public internet"):
        search_hub("tiny", 3)
    assert inner.asked() == b""
    names["rebind.example"] = [OPEN]
    assert search_hub("tiny", 3) == ()


def test_who_sits_elsewhere_names_no_host_of_this_network(origin, names, inner, blob, pull) -> None:
    origin.add("/x.gguf", blob)

    def asked_from_elsewhere(*meant: str) -> bytes:
        names["a.example"] = list(meant)
        set_before = redirects.ONLY_PUBLIC.set(True)
        try:
            return pull("a.example")
        finally:
            redirects.ONLY_PUBLIC.reset(set_before)

    for meant in ((CLOSED,), (OPEN, CLOSED)):  # looked up; connected to
        with pytest.raises(DownloadFailed, match="not of the public internet"):
            asked_from_elsewhere(*meant)
    assert inner.asked() == b""
    assert asked_from_elsewhere(OPEN) == blob


def test_a_proxy_of_this_network_may_stand_before_the_internet(origin, names, blob, pull, monkeypatch) -> None:
    names |= {"proxy.example": [CLOSED], "a.example": [OPEN]}
    with socket.create_server((CLOSED, 0)) as listener:
        monkeypatch.setenv("http_proxy", f"http://proxy.example:{listener.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("FILBERT_DOWNLOAD_STALL_S", "0.2")
        monkeypatch.setenv("FILBERT_DOWNLOAD_RETRIES", "0")
        with pytest.raises(DownloadFailed, match="sent nothing for too long"):
            pull("a.example")
        assert Inner(listener).asked().startswith(b"GET http://a.example:")
