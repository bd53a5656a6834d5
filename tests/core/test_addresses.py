"""Which addresses strangers may send the server to."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filbert.core.addresses import is_elsewhere, is_loopback, is_public, own_networks

PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "127.0.0.1", "127.255.255.254", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("100.64.0.1", "100.127.255.255", "100.100.100.200"),
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "5f00::1", "100::1"),
    *("", "localhost", "1.1.1.1 ", "1.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "2606:4700::1111%1"),
]
V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
LOCAL = st.sampled_from(
    ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@given(V4 | V6)
@example(ipaddress.ip_address("192.0.0.9"))
def test_nothing_is_public_that_python_calls_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(str(address)) or address in ipaddress.ip_network("64:ff9b::/96")


@given(LOCAL, st.integers(0), st.data())
def test_a_local_address_is_none_in_whatever_it_is_wrapped(block: str, at: int, data: st.DataObject) -> None:
    network = ipaddress.ip_network(block)
    inner = int(network[at % network.num_addresses])
    rest = data.draw(st.integers(0, 2**80 - 1))
    for wrapped in (
        inner,  # IPv4-compatible
        0xFFFF << 32 | inner,  # IPv4-mapped
        0xFFFF << 48 | inner,  # IPv4-translated
        0x64FF9B << 96 | inner,  # NAT64
        0x2002 << 112 | inner << 80 | rest,  # 6to4
        0x20010000 << 96 | rest & ~0xFFFFFFFF | inner ^ 0xFFFFFFFF,  # Teredo
    ):
        assert not is_public(str(ipaddress.IPv6Address(wrapped)))
    assert not is_public(str(ipaddress.IPv4Address(inner)))


@given(V4)
def test_nat64_leads_where_the_address_in_it_leads(address: ipaddress.IPv4Address) -> None:
    assert is_public(f"64:ff9b::{address}") == is_public(str(address))


@given(st.text(max_size=40))
def test_what_is_no_address_is_not_public(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert not is_public(text)
    assert is_loopback(text) in (True, False)


def test_a_neighbour_with_a_public_address_is_not_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    card = [
        SimpleNamespace(address="2606:4700:1:2::5%eth0", netmask="ffff:ffff:ffff:ffff::"),
        SimpleNamespace(address="8.8.8.8", netmask=None),
        SimpleNamespace(address="52:54:00:12:34:56", netmask=None),
    ]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": card})
    assert [str(network) for network in own_networks()] == ["2606:4700:1:2::/64", "8.8.8.8/32"]
    assert is_elsewhere("2606:4700:1:3::9") and is_elsewhere("8.8.4.4")
    for near in ("2606:4700:1:2::9", "8.8.8.8", "64:ff9b::8.8.8.8", "127.0.0.1"):
        assert not is_elsewhere(near)
    monkeypatch.undo()
    assert ipaddress.ip_network("127.0.0.0/8") in own_networks()


@pytest.mark.parametrize(("host", "is_here"), [("LOCALHOST", True), ("::1", True), ("127.9.9.9", True), ("a.b", False)])
def test_loopback(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here
